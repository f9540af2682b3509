//! What is done to a database by the command line, beside a control plane that does not run.

use anyhow::Context as _;

use super::Controlplane;
use crate::auth::{self, Scopes, Token};
use crate::config::Store;
use crate::secrets::Vault;
use crate::start::{history, lock_of, new_generation, open_beside, place, said};
use crate::store::schema::Step;
impl Controlplane {
    /// Makes a token beside a control plane that does not run.
    ///
    /// # Errors
    /// When the folder is in use or the database cannot be opened.
    pub async fn create_token(store: &Store, scope: &str) -> anyhow::Result<Token> {
        Scopes::parse(scope).map_err(|name| anyhow::anyhow!("scope \"{name}\" is none"))?;
        let (mut database, _lock) = open_beside(store).await?;
        let token = auth::create(&mut database.writer, scope).await?;
        database.close().await?;
        Ok(token)
    }

    /// Starts a new generation beside a control plane that does not run: data planes that have seen later changes than
    /// this database (a restored copy) take it as the truth all the same.
    ///
    /// # Errors
    /// When the folder is in use or the database cannot be opened.
    pub async fn start_generation(store: &Store) -> anyhow::Result<()> {
        let (mut database, _lock) = open_beside(store).await?;
        history(&mut database.writer, None).await?;
        let started = new_generation(&mut database.writer).await?;
        anyhow::ensure!(started, "the clock is behind the start of the present generation");
        database.close().await?;
        Ok(())
    }

    /// Makes the feed's next key the one that signs, and a new next one. A database of a server may be in use: who uses it
    /// signs with that key a moment later.
    ///
    /// # Errors
    /// When a node would not know the key, the folder is in use, or the database or its secrets cannot be opened.
    pub async fn rotate_feed_key(store: &Store) -> anyhow::Result<()> {
        let (mut database, _lock) = open_beside(store).await?;
        history(&mut database.writer, None).await?;
        let vault = Vault::unlock(&mut database.writer, store.master_places()?).await.context("secrets")?;
        vault.rotate(&mut database.writer).await?;
        database.close().await?;
        Ok(())
    }

    /// Brings the schema of a database up to date; gives its steps. A database of a server may be in use.
    ///
    /// # Errors
    /// When the folder is in use, the database cannot be had, or its schema is newer than this program.
    pub async fn migrate(store: &Store) -> anyhow::Result<Vec<Step>> {
        let place = place(store)?;
        let _lock = lock_of(&place, store)?;
        let done = async {
            place.migrate().await?;
            place.steps().await
        };
        done.await.map_err(said).with_context(|| format!("database {place}"))
    }

    /// The steps of the schema, and whether the database has them. It may be in use.
    ///
    /// # Errors
    /// When the database cannot be had.
    pub async fn schema(store: &Store) -> anyhow::Result<Vec<Step>> {
        let place = place(store)?;
        place.steps().await.map_err(said).with_context(|| format!("database {place}"))
    }
}
