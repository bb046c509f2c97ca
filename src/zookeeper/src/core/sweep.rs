//! Containers and TTL nodes: deleted when they have outlived their use (`ContainerManager`).

use jute::txn::Txn;

use super::Core;

impl Core {
    /// Deletes what is due, not more than so many a minute.
    pub(super) fn sweep(&mut self, now_ms: i64, wall_ms: i64) {
        if now_ms < self.next_sweep_ms {
            return;
        }
        let interval_ms = self.settings.container_check_ms.max(1);
        self.next_sweep_ms = now_ms + interval_ms;
        let per_minute = self.settings.container_max_per_minute as i64;
        let count = (per_minute.saturating_mul(interval_ms) / 60_000).max(1) as usize;
        let unused_max_ms = self.settings.container_unused_max_ms;
        let due: Vec<String> = self.tree.outlived(wall_ms, unused_max_ms).take(count).collect();
        for path in due {
            tracing::info!(
                "deleting {path}: a container without children, or a TTL node after its time"
            );
            self.commit(0, 0, wall_ms, Txn::Delete { path });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Settings, State};
    use crate::tree::open_acl;
    use jute::request::opcode;

    fn create(core: &mut Core, opcode: i32, path: &str, ttl: i64) {
        let (path, acl) = (path.to_owned(), open_acl());
        let txn = Txn::Create {
            opcode,
            path,
            data: None,
            acl,
            ephemeral: false,
            parent_cversion: -1,
            ttl,
        };
        core.commit(1, 1, 0, txn);
    }

    fn swept(core: &mut Core, at_ms: i64) -> Vec<&'static str> {
        core.tick(at_ms, at_ms);
        ["/c", "/used", "/used/child", "/t", "/t2", "/plain"]
            .into_iter()
            .filter(|path| core.tree.get(path).is_none())
            .collect()
    }

    #[test]
    fn containers_end_after_their_children_and_ttl_nodes_after_their_time() {
        let mut core = Core::new(Settings::for_tests(), State::default(), 0);
        create(&mut core, opcode::CREATE_CONTAINER, "/c", 0);
        create(&mut core, opcode::CREATE_CONTAINER, "/used", 0);
        create(&mut core, opcode::CREATE, "/used/child", 0);
        create(&mut core, opcode::CREATE_TTL, "/t", 250);
        create(&mut core, opcode::CREATE_TTL, "/t2", 450);
        create(&mut core, opcode::CREATE, "/plain", 0);
        assert_eq!(swept(&mut core, 100), Vec::<&str>::new());
        core.commit(1, 1, 150, Txn::Delete { path: "/used/child".to_owned() });
        assert_eq!(swept(&mut core, 160), ["/used/child"], "only every 100 ms");
        assert_eq!(swept(&mut core, 260), ["/used", "/used/child", "/t"]);
        core.commit(1, 1, 270, Txn::SetData { path: "/t2".to_owned(), data: None, version: 1 });
        assert_eq!(swept(&mut core, 500), ["/used", "/used/child", "/t"], "a change prolongs it");
    }

    #[test]
    fn containers_that_nobody_used_end_where_they_are_told_to() {
        let settings = Settings { container_unused_max_ms: Some(150), ..Settings::for_tests() };
        let mut core = Core::new(settings, State::default(), 0);
        create(&mut core, opcode::CREATE_CONTAINER, "/c", 0);
        create(&mut core, opcode::CREATE_CONTAINER, "/used", 0);
        create(&mut core, opcode::CREATE, "/used/child", 0);
        create(&mut core, opcode::CREATE, "/plain", 0);
        assert!(!swept(&mut core, 110).contains(&"/c"));
        assert!(swept(&mut core, 260).contains(&"/c"));
        assert!(core.tree.get("/used").is_some() && core.tree.get("/plain").is_some());
    }
}
