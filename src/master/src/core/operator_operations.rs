//! Operations on resources that operators want: RESERVE_RESOURCES and the like, `/reserve` and the like
//! (`Master::Http::_operation`).

use mesos::resources::Resources;
use mesos::resources::operations::{conversions, upgrade_operation};
use mesos::v1::offer::Operation;
use mesos::v1::offer::operation::Type;

use super::operator::bad;
use super::validation::operations::{Author, check};
use super::{Master, Refusal};

impl Master {
    /// Carries out an operation on what is free of an agent; offers that stand in its way are taken back.
    ///
    /// # Errors
    /// When there is no such agent, the operation is not valid, or what it needs is in use.
    pub fn operate_as_operator(
        &mut self,
        id: &str,
        principal: Option<&str>,
        mut operation: Operation,
    ) -> Result<(), Refusal> {
        let Some(agent) = self.agents.get(id) else {
            return Err(bad("No agent found with specified ID"));
        };
        upgrade_operation(&mut operation).map_err(bad)?;
        let used = self.used_on(id).iter().map(|(_, _, used)| used).sum();
        let kind = operation.r#type();
        check(Author::Operator(principal), agent, &used, &operation).map_err(|reason| {
            // UNRESERVE and DESTROY don't say where.
            let place = match kind {
                Type::Unreserve | Type::Destroy => String::new(),
                _ => format!(" on agent {}", agent.title()),
            };
            bad(format!("Invalid {} operation{place}: {reason}", kind.as_str_name()))
        })?;
        if !self.may_operate(principal, &operation) {
            return Err(Refusal::Forbidden);
        }
        let conversions = conversions(&operation).map_err(bad)?;
        let needed: Resources = conversions.iter().map(|conversion| &conversion.consumed).sum();
        self.make_room(id, needed, |free| free.apply_all(&conversions).is_ok());
        if let Err(reason) = self.allocator.free(id).apply_all(&conversions) {
            return Err(Refusal::Conflict(reason));
        }
        if kind == Type::Destroy {
            self.rescind_offers_of_volumes(id, &operation);
        }
        self.apply(id, None, operation, &conversions);
        self.candidates.insert(id.to_owned());
        Ok(())
    }

    /// Takes offers of an agent back that have something of what is needed, until there is enough.
    fn make_room(
        &mut self,
        agent: &str,
        mut needed: Resources,
        is_enough: impl Fn(&Resources) -> bool,
    ) {
        let offers: Vec<String> = self
            .agents
            .get(agent)
            .map(|on| on.offers.iter().cloned().collect())
            .unwrap_or_default();
        for id in offers {
            let Some(offer) = self.offers.get(&id) else { continue };
            let mut rest = needed.clone();
            rest.subtract(&offer.resources.unallocate());
            if rest == needed {
                continue;
            }
            needed = rest;
            self.rescind(&id, true);
            if is_enough(&self.allocator.free(agent)) {
                return;
            }
        }
    }
}
