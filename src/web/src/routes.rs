//! Which endpoint a path means, as libprocess finds it (`ProcessManager::handle`, `ProcessBase::consume`).
//!
//! The first part of a path names a process; where there is none of that name, the daemon's own takes the whole path. In
//! a process the longest prefix counts: `/state/extra` is `/state`. Slashes at the end of a path are nothing, and so are
//! more than one where the endpoint's name begins.

use std::borrow::Cow;

use crate::respond::percent_decode;

/// What a daemon has.
#[derive(Debug, Clone, Copy)]
pub struct Routes {
    /// The daemon's own process: it takes what names no other.
    pub own: &'static str,
    /// The own process' endpoints, each as `/name`.
    pub endpoints: &'static [&'static str],
    /// Those of other processes, each as `/process/name`, or `/process` where the process itself answers.
    pub others: &'static [&'static str],
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    /// The endpoint, as it is listed.
    pub endpoint: &'static str,
    /// The path as libprocess sees it: below the name of the own process, if it names none.
    pub path: Cow<'a, str>,
}

impl Route<'_> {
    /// All ways in which an operator's rule may write where a path led: as libprocess sees it, as it was given, as the
    /// endpoint is listed, and below the own process' name.
    fn forms(&self, routes: &Routes, given: &str) -> [String; 4] {
        let below = format!("/{}{}", routes.own, self.endpoint);
        [self.path.clone().into_owned(), given.to_owned(), self.endpoint.to_owned(), below]
    }
}

impl Routes {
    /// What an operator's rules say first against a path, which led to `route`, in any way of writing it: no second way
    /// gets round them.
    pub fn refusal<T>(
        &self,
        path: &str,
        route: Option<&Route<'_>>,
        rules: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        match route {
            Some(route) => route.forms(self, path).iter().find_map(|form| rules(form)),
            None => rules(path),
        }
    }

    /// Where a path leads; `None` if nowhere.
    pub fn find<'a>(&self, path: &'a str) -> Option<Route<'a>> {
        if !path.starts_with('/') || path.contains("/..") {
            return None;
        }
        let first = path.split('/').find(|part| !part.is_empty())?;
        let process = percent_decode(first);
        let (process, path) = if process == self.own || self.of(&process).next().is_some() {
            (process.as_str(), Cow::Borrowed(path))
        } else {
            (self.own, Cow::Owned(format!("/{}{path}", self.own)))
        };
        let given = if matches!(path, Cow::Borrowed(_)) { first } else { self.own };
        // Only one slash may be before a process' name.
        let rest = path.strip_prefix('/').and_then(|rest| rest.strip_prefix(given));
        let mut name = rest.unwrap_or(&path).trim_matches('/');
        let endpoint = loop {
            if let Some(found) = self.named(process, name) {
                break found;
            }
            name = name.rsplit_once('/')?.0.trim_end_matches('/');
        };
        Some(Route { endpoint, path })
    }

    /// Endpoints of another process, each with its name there.
    fn of<'p>(
        &self,
        process: &'p str,
    ) -> impl Iterator<Item = (&'static str, &'static str)> + use<'p> {
        self.others.iter().filter_map(move |endpoint| {
            let name = endpoint.strip_prefix('/')?.strip_prefix(process)?;
            // No process has a slash in its name.
            let is_its = !process.contains('/') && (name.is_empty() || name.starts_with('/'));
            is_its.then_some((*endpoint, name))
        })
    }

    fn named(&self, process: &str, name: &str) -> Option<&'static str> {
        let mut own = self.endpoints.iter().map(|endpoint| (*endpoint, *endpoint));
        let is_it = |(_, own): &(&str, &str)| own.strip_prefix('/').unwrap_or_default() == name;
        let found =
            if process == self.own { own.find(is_it) } else { self.of(process).find(is_it) };
        found.map(|(endpoint, _)| endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: Routes = Routes {
        own: "master",
        endpoints: &["/state", "/api/v1", "/api/v1/scheduler", "/quota", "/maintenance/status"],
        others: &["/files/browse", "/version", "/registrar(1)/registry"],
    };

    #[test]
    fn paths_lead_where_the_original_takes_them() {
        for (path, endpoint) in [
            ("/state", "/state"),
            ("//state", "/state"),
            ("///state///", "/state"),
            ("/master/state", "/state"),
            ("/master//state/", "/state"),
            ("/%6daster/state", "/state"),
            ("/state/extra/more", "/state"),
            ("/api/v1/", "/api/v1"),
            ("/api/v1/executor", "/api/v1"),
            ("/api/v1/scheduler/x", "/api/v1/scheduler"),
            ("/maintenance/status/x", "/maintenance/status"),
            ("/files/browse/", "/files/browse"),
            ("/files/browse/x", "/files/browse"),
            ("/version", "/version"),
            ("/version/", "/version"),
            ("/registrar(1)/registry", "/registrar(1)/registry"),
            ("/registrar%281%29/registry/x", "/registrar(1)/registry"),
        ] {
            assert_eq!(ROUTES.find(path).map(|route| route.endpoint), Some(endpoint), "{path}");
        }
        for path in [
            "/",
            "//",
            "/master",
            "/master/",
            "//master/state",
            "//files/browse",
            "/State",
            "/state.json",
            "/master/%73tate",
            "/state%2f",
            "/%zz/state",
            "/api",
            "/api/v2",
            "/files",
            "/version/x",
            "/master/version",
            "/master/files/browse",
            "/maintenance//status",
            "/state/../quota",
            "/..",
            "/files%2Fbrowse",
            "/registrar(2)/registry",
            "state",
        ] {
            assert_eq!(ROUTES.find(path), None, "{path}");
        }
    }

    #[test]
    fn where_a_path_leads_is_written_in_each_way() {
        let forms = |path| ROUTES.find(path).unwrap().forms(&ROUTES, path);
        assert_eq!(forms("/state/"), ["/master/state/", "/state/", "/state", "/master/state"]);
        assert!(forms("/%6daster/state/x").contains(&"/state".to_owned()));
    }

    #[test]
    fn what_names_no_process_is_below_the_daemons_own() {
        let path = |path| ROUTES.find(path).map(|route| route.path.into_owned());
        assert_eq!(path("/quota/a/b").as_deref(), Some("/master/quota/a/b"));
        assert_eq!(path("/master//quota/a").as_deref(), Some("/master//quota/a"));
        assert_eq!(path("//state").as_deref(), Some("/master//state"));
        assert_eq!(path("/files/browse").as_deref(), Some("/files/browse"));
    }
}
