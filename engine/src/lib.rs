//! Answers DNS queries from an immutable snapshot.
