//! Both planes together, as their users meet them: the real program on free ports, HTTP in, DNS out.

mod api_to_answer;
mod audit;
mod cli;
mod cli_changes;
mod cli_faults;
mod dns;
mod escaping;
mod first_run;
mod hangup;
mod http;
mod keys;
mod kill9;
mod node;
mod plane;
mod poison;
mod process;
mod read_after_write;
mod restart;
mod rollback;
mod several;
mod shadow;
mod tls;
