//! The API and the database behind the data planes.
