//! Finds what is declared of a request.

use std::{collections::HashMap, sync::Arc};

use http::Method;

use super::{Route, RouteInfo};

/// The declared routes by path.
#[derive(Debug, Default)]
pub(crate) struct Table(HashMap<&'static str, Arc<PathEntry>>);

/// The routes of one path.
#[derive(Debug, Default, Clone)]
pub(crate) struct PathEntry(Vec<Arc<RouteInfo>>);

impl Table {
    pub(crate) fn new(routes: &[Route]) -> Self {
        let mut paths: HashMap<&'static str, PathEntry> = HashMap::new();
        for route in routes {
            paths
                .entry(route.info.path)
                .or_default()
                .0
                .push(Arc::new(route.info.clone()));
        }
        Self(
            paths
                .into_iter()
                .map(|(path, entry)| (path, Arc::new(entry)))
                .collect(),
        )
    }

    /// The routes of a path, by its template.
    pub(crate) fn path(&self, template: &str) -> Option<Arc<PathEntry>> {
        self.0.get(template).cloned()
    }
}

impl PathEntry {
    /// The route that serves a method; `HEAD` is served by the route for `GET`.
    pub(crate) fn route(&self, method: &Method) -> Option<Arc<RouteInfo>> {
        let served = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        self.0.iter().find(|route| route.method == *served).cloned()
    }

    /// The methods it serves, as the `Allow` header lists them.
    pub(crate) fn allow(&self) -> String {
        let mut methods = Vec::new();
        for route in &self.0 {
            methods.push(route.method.as_str());
            if route.method == Method::GET && !route.detached {
                methods.push(Method::HEAD.as_str());
            }
        }
        methods.join(",")
    }

    /// Whether pages of any origin may use one of its routes.
    pub(crate) fn any_origin(&self) -> bool {
        self.0.iter().any(|route| route.any_origin)
    }

    /// Whether all its routes are probes; their preflights are no more limited than they are.
    pub(crate) fn all_probes(&self) -> bool {
        self.0
            .iter()
            .all(|route| route.rate_class == super::RateClass::Probe)
    }
}
