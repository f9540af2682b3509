//! The command line of people and what they let in: users, their keys, and tokens.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Target;

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Add a user for whose address you vouch, and print a link with which they choose their password: one line, good once
    #[command(after_help = "\
Example:
  godwit user add anna@example.org --name Anna --operator")]
    Add {
        /// Their e-mail address
        email: String,
        /// What they are called
        #[arg(long)]
        name: Option<String>,
        /// They may do everything
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Register yourself: a link goes to the address, and proves that it is yours. Asks for a password, or reads it from
    /// standard input
    #[command(after_help = "\
Example:
  godwit user register anna@example.org --name Anna --url http://dns.example.net:8053")]
    Register {
        /// Your e-mail address
        email: String,
        /// What to be called
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Prove your address with what stands in the link behind `token=`. Asks for the password that was registered, or reads it
    /// from standard input
    Verify {
        /// gl_…
        link: String,
        #[command(flatten)]
        target: Target,
    },
    /// Choose a password with what stands in a link behind `token=`. Asks for it, or reads it from standard input
    Password {
        /// gl_…
        link: String,
        #[command(flatten)]
        target: Target,
    },
    /// List users
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Print another link with which a user chooses a password; links of before are good no more
    Link {
        /// Their e-mail address
        email: String,
        #[command(flatten)]
        target: Target,
    },
    /// Let a user in nowhere: their sessions end within a second
    Suspend {
        /// Their e-mail address
        email: String,
        #[command(flatten)]
        target: Target,
    },
    /// Let a suspended user in again
    Resume {
        /// Their e-mail address
        email: String,
        #[command(flatten)]
        target: Target,
    },
    /// Remove a user
    Remove {
        /// Their e-mail address
        email: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Who logs in.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogIn {
    /// Your e-mail address; the password is asked for, or read from standard input
    #[arg(long, value_name = "EMAIL", env = "GODWIT_EMAIL")]
    pub(crate) email: String,
    /// A code of your app, or a recovery code, where your account asks for one
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// The API
    #[arg(long, value_name = "URL", env = "GODWIT_URL", default_value = "http://127.0.0.1:8053")]
    pub(crate) url: String,
    /// A file with the certificates that the API's comes from (PEM), where the system does not know them
    #[arg(long, value_name = "FILE", env = "GODWIT_CA")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Add a key of yours, and write what goes with it beside it (FILE.json). A file that is not there is made, with a key on
    /// P-256
    #[command(after_help = "\
Examples:
  godwit key add me.pem --email anna@example.org
  openssl genpkey -algorithm ed25519 -out me.pem && godwit key add me.pem --email anna@example.org --scope 'records:read'")]
    Add {
        /// The private key in PEM (PKCS #8): RSA of 2048 to 4096 bits, P-256 or Ed25519. It stays here
        file: PathBuf,
        /// What to call it [default: the name of the file]
        #[arg(long)]
        name: Option<String>,
        /// The most that its tokens may, as names of scopes with spaces between [default: all that you may]
        #[arg(long, value_name = "SCOPES")]
        scope: Option<String>,
        /// Each of its tokens is good once
        #[arg(long)]
        single_use: bool,
        /// When it ends, as 2027-11-20T19:00:00Z
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        #[command(flatten)]
        login: LogIn,
    },
    /// List your keys
    List {
        #[command(flatten)]
        login: LogIn,
    },
    /// Remove a key of yours: what it signed is refused within a second
    Remove {
        /// Its `kid`
        kid: String,
        #[command(flatten)]
        login: LogIn,
    },
}

/// What a token is narrowed to.
#[derive(Clone, Debug, Args)]
pub(crate) struct Narrowed {
    /// For this zone alone; may be given again
    #[arg(long = "zone", value_name = "ZONE")]
    pub(crate) zones: Vec<String>,
    /// For this name alone, or with *. for all below one; may be given again
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// For this type of records alone; may be given again
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) types: Vec<String>,
    /// For this value alone: a network for A and AAAA, else the value as answers show it; may be given again
    #[arg(long = "value", value_name = "VALUE")]
    pub(crate) values: Vec<String>,
    /// From this network alone; may be given again
    #[arg(long = "network", value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
}

/// Whose tokens: of who logs in, or else of nobody's account, with an admin token.
#[derive(Clone, Debug, Args)]
pub(crate) struct Whose {
    /// Your e-mail address; the password is asked for, or read from standard input
    #[arg(long, value_name = "EMAIL", env = "GODWIT_EMAIL")]
    pub(crate) email: Option<String>,
    /// A code of your app, or a recovery code, where your account asks for one
    #[arg(long, value_name = "CODE", requires = "email")]
    pub(crate) code: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token for what cannot sign, and print it: one line, not to be had again
    #[command(after_help = "\
Example:
  godwit token add router --scope records:write --name home.example.com --type A --value 198.51.100.0/24 --email anna@example.org")]
    Add {
        /// What to call it
        title: String,
        /// What it may; with spaces between
        #[arg(long, value_name = "SCOPES")]
        scope: String,
        #[command(flatten)]
        narrowed: Narrowed,
        /// When it ends, as 2027-11-20T19:00:00Z
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// List tokens that are not revoked, and when each was last used
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Revoke a token: it is refused within a second
    Revoke {
        /// Its id
        id: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Sign a token with a key that was added; needs no server
    #[command(after_help = "\
Example:
  curl -H \"Authorization: Bearer $(godwit token sign --key me.pem --scope records:read)\" http://127.0.0.1:8053/api/v1/records")]
    Sign {
        /// The private key; FILE.json stands beside it
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// What it may: records:read, records:write, domains:read, domains:write, …, admin; with spaces between
        #[arg(long, value_name = "SCOPES")]
        scope: String,
        #[command(flatten)]
        narrowed: Narrowed,
        /// Seconds for which it is good
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        ttl: u64,
    },
    /// Create a token of nobody's account beside a server that is stopped: when no other is left
    #[command(after_help = "\
Example:
  godwit token create --scope admin --data /var/lib/godwit")]
    Create {
        /// What it may
        #[arg(long, default_value = "admin")]
        scope: String,
        /// Folder of the database [default: ./godwit-data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Configuration of the server, where it says where the database is; /etc/godwit/godwit.toml when present
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}
