//! Holds threads up that are started before they may work: whether a thread can be had shows while another process
//! still answers.

use std::sync::{Arc, OnceLock};

/// Opened or closed once, for all who wait at it. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<OnceLock<bool>>);

impl Gate {
    /// Waits; whether there is work to do. `false`: the start has failed, or was called off.
    pub(super) fn pass(&self) -> bool {
        *self.0.wait()
    }

    /// Lets everybody through.
    pub(super) fn open(&self) {
        let _ = self.0.set(true);
    }

    /// Sends those home who still wait.
    pub(super) fn close(&self) {
        let _ = self.0.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decided_first_holds_for_all() {
        for opened in [true, false] {
            let gate = Gate::default();
            let waiting = {
                let gate = gate.clone();
                std::thread::spawn(move || gate.pass())
            };
            if opened {
                gate.open();
            }
            gate.close();
            assert_eq!((waiting.join().unwrap(), gate.pass()), (opened, opened));
        }
    }
}
