//! The command line of what secrets in the database are sealed with.

use std::path::PathBuf;

use clap::Subcommand;

use super::Target;

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// List data keys, and the master keys that open them
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Make another data key, and seal everything anew with it, while the server runs; waits until older keys are gone
    #[command(after_help = "\
Example:
  godwit keys rotate")]
    Rotate {
        /// Do not wait: the job keys.rotate goes on
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Change the master key: have data keys opened by the next one too, and then by it alone
    #[command(after_help = "\
Example, where the server has its master key in /var/lib/godwit/secrets.key:
  godwit keys make /var/lib/godwit/secrets.key.next
      on the machine of the server; copy the file to those of all other control planes, and back it up
  godwit keys rewrap
  mv /var/lib/godwit/secrets.key.next /var/lib/godwit/secrets.key
      on all of them; no server has to be restarted
  godwit keys rewrap --finish")]
    Rewrap {
        /// Leave data keys to the master key that counts now: the other one opens them no more
        #[arg(long)]
        finish: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Make a master key, in a file that nobody else may read; needs no server
    Make {
        /// The file; one that is there is not written over
        file: PathBuf,
    },
}
