//! Who data planes are in Redis: a user who can read the feed and do nothing else.

use godwit_redis::{Connection, Place};

/// See the module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reader {
    pub(crate) user: String,
    pub(crate) password: String,
    /// Patterns of all keys of the feed: whoever makes the user says all of them, for the databases of one server have the
    /// same users.
    pub(crate) keys: Vec<String>,
}

impl Reader {
    /// What it may: read; say hello; ask whether the server is a master, and which servers a cluster has.
    const ALLOWED: [&str; 15] = [
        "xread",
        "xrevrange",
        "get",
        "mget",
        "strlen",
        "hlen",
        "hgetall",
        "multi",
        "exec",
        "ping",
        "select",
        "hello",
        "client|setname",
        "role",
        "cluster|slots",
    ];

    /// Of the URL that data planes are told; `None` where it names no user, or one of ours.
    pub(crate) fn of(nodes: &Place, ours: &Place, keys: Vec<String>) -> Option<Reader> {
        let user = nodes.user().filter(|user| Some(*user) != ours.user() && *user != "default")?;
        Some(Reader { user: user.to_owned(), password: nodes.password()?.to_owned(), keys })
    }

    pub(super) async fn make(&self, connection: &mut Connection) -> redis::RedisResult<()> {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&self.user).arg("reset").arg("on").arg(format!(">{}", self.password));
        for key in &self.keys {
            command.arg(format!("~{key}"));
        }
        command.arg("-@all");
        for allowed in Reader::ALLOWED {
            command.arg(format!("+{allowed}"));
        }
        command.exec_async(connection).await?;
        // What clients say of themselves first; older servers do not know of it, and clients do not mind.
        let mut more = redis::cmd("ACL");
        more.arg("SETUSER").arg(&self.user).arg("+client|setinfo");
        let _ = more.exec_async(connection).await;
        Ok(())
    }
}
