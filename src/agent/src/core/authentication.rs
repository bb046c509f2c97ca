//! Proving who the agent is to its master (CRAM-MD5), where it has a credential.

use std::time::Duration;

use access::cram_md5::{Authenticatee, Reply, Step};
use mesos::libprocess::{Upid, inbound::Header};
use prost::DecodeError;

use super::{Agent, Effect, Ending, Now};

/// How far it is with the master that leads now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authentication {
    /// Not begun, or begun in vain this many times.
    Needed(u32),
    /// The master must have answered everything by then (monotonic); how many attempts came before.
    Going(Duration, u32),
    /// The master knows who this is.
    Done,
}

impl Agent {
    /// Whether the agent may register now. One that must authenticate first begins to.
    pub(super) fn is_authenticated(&mut self, now: Now) -> bool {
        let Some(own) = self.settings.credential.clone() else { return true };
        let before = match self.authentication {
            Authentication::Done => return true,
            Authentication::Going(deadline, _) if now.mono < deadline => return false,
            Authentication::Going(_, before) => {
                tracing::warn!(
                    "the master did not answer the authentication in time; trying again"
                );
                before + 1
            }
            Authentication::Needed(before) => before,
        };
        let Some(master) = self.master.clone() else { return false };
        let (shortest, longest) = self.settings.authentication_timeout;
        let limit = (shortest * 2u32.saturating_pow(before.min(16))).min(longest.max(shortest));
        self.authentication = Authentication::Going(now.mono + limit, before);
        let subject = Upid::new("slave(1)", self.settings.endpoint);
        self.say(master, own.first(&subject));
        false
    }

    fn say(&mut self, to: Upid, reply: Reply) {
        self.effects.push(Effect::SendAs(Authenticatee::PROCESS, to, reply.name, reply.body));
    }

    /// A message of the master's session.
    pub(super) fn authentication_message(
        &mut self,
        now: Now,
        header: &Header,
        body: &[u8],
    ) -> Result<(), DecodeError> {
        let Some(own) = self.settings.credential.clone() else { return Ok(()) };
        let Authentication::Going(deadline, before) = self.authentication else { return Ok(()) };
        let (step, reply) = own.message(&header.name, body)?;
        if let Some(reply) = reply {
            self.say(header.from.clone(), reply);
        }
        match step {
            Step::Going => {}
            Step::Known(principal) => {
                tracing::info!(%principal, "authenticated with the master");
                self.authentication = Authentication::Done;
                self.register_due = now.mono;
            }
            Step::Refused => {
                let master = self.master.as_ref().map(ToString::to_string).unwrap_or_default();
                let reason = format!(
                    "Master {master} refused authentication: check --credential against the master's --credentials"
                );
                self.effects.push(Effect::Abort(Ending::Failure(reason)));
            }
            Step::Broken(reason) => {
                tracing::warn!(reason, "authentication with the master failed; trying again");
                // At the time at which an answer would have been missed.
                self.authentication = Authentication::Going(deadline, before);
            }
        }
        Ok(())
    }
}
