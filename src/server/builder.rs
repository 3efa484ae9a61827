//! The hub as a library: what a Rust program adds to what is configured.

use std::{fmt, sync::Arc};

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, MethodRouter, on},
};
use utoipa::openapi::{
    HttpMethod, OpenApi, OpenApiBuilder, PathItem, Paths, RefOr, Response, Responses,
    path::{Operation, OperationBuilder, Parameter, ParameterIn},
    security::SecurityRequirement,
};

use super::{ServeError, serve_with};
use crate::{
    api::Surface,
    config::Config,
    runtime::agent::Agent,
    tool::{SharedTool, ToolSource},
    transport::auth::{Access, AccessTable},
    workflow::Workflow,
};

/// Adds agents, tools, workflows and routes of one's own to a hub, and serves it.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use agent_hub::{HubBuilder, Route, config::{Config, Inputs}};
///
/// let config = Config::load(&Inputs::default())?;
/// HubBuilder::new()
///     .route(Route::get("/api/hello", || async { "hello" }).describe("Say hello").open())
///     .serve(config)
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct HubBuilder {
    pub(super) agents: Vec<Agent>,
    pub(super) tools: Vec<SharedTool>,
    pub(super) sources: Vec<Arc<dyn ToolSource>>,
    pub(super) workflows: Vec<Workflow>,
    pub(super) routes: Vec<Route>,
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("agents", &self.agents)
            .field("tools", &self.tools)
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

impl HubBuilder {
    /// Nothing added yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With an agent. One that is configured under the same name gives way to it.
    #[must_use]
    pub fn agent(mut self, agent: Agent) -> Self {
        self.agents.push(agent);
        self
    }

    /// With a tool; agents have it that name it.
    #[must_use]
    pub fn tool(mut self, tool: SharedTool) -> Self {
        self.tools.push(tool);
        self
    }

    /// With tools that come and go.
    #[must_use]
    pub fn tools_of(mut self, source: Arc<dyn ToolSource>) -> Self {
        self.sources.push(source);
        self
    }

    /// With a workflow.
    #[must_use]
    pub fn workflow(mut self, workflow: Workflow) -> Self {
        self.workflows.push(workflow);
        self
    }

    /// With a route. It stands in the OpenAPI document and in what the hub says when it starts.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Serves the hub until it is told to stop, as the program does.
    ///
    /// # Errors
    /// When it cannot start, or its listener fails.
    pub async fn serve(self, config: Config) -> Result<(), ServeError> {
        serve_with(config, self).await
    }
}

/// A route of one's own: it asks for a token unless it says otherwise.
#[derive(Clone)]
pub struct Route {
    method: Method,
    path: String,
    description: String,
    access: Access,
    handler: MethodRouter,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        if self.description.is_empty() { Ok(()) } else { write!(f, "  {}", self.description) }
    }
}

macro_rules! of_method {
    ($($name:ident $method:ident $what:literal,)*) => {
        $(
            #[doc = $what]
            pub fn $name<H: Handler<T, ()>, T: 'static>(path: impl Into<String>, handler: H) -> Self {
                Self::of(Method::$method, MethodFilter::$method, path.into(), handler)
            }
        )*
    };
}

impl Route {
    of_method! {
        get GET "`GET`. The path begins with `/`; `{name}` stands for a part of it.",
        post POST "`POST`.",
        put PUT "`PUT`.",
        patch PATCH "`PATCH`.",
        delete DELETE "`DELETE`.",
        options OPTIONS "`OPTIONS`.",
    }

    fn of<H: Handler<T, ()>, T: 'static>(method: Method, filter: MethodFilter, path: String, handler: H) -> Self {
        Self { method, path, description: String::new(), access: Access::Token, handler: on(filter, handler) }
    }

    /// With a line about it.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// For everybody, from any page, without a token.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.access = Access::Public;
        self
    }

    fn operation(&self) -> Operation {
        let names = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters: Vec<Parameter> = names
            .map(|name| {
                let mut parameter = Parameter::new(name.trim_start_matches('*'));
                parameter.parameter_in = ParameterIn::Path;
                parameter
            })
            .collect();
        let mut responses = Responses::new();
        responses.responses.insert("200".to_owned(), RefOr::T(Response::new("What it answers")));
        let mut operation = OperationBuilder::new().tag("Custom").parameters(Some(parameters)).responses(responses);
        if !self.description.is_empty() {
            operation = operation.summary(Some(self.description.clone()));
        }
        if self.access != Access::Public {
            operation = operation.security(SecurityRequirement::new::<_, [&str; 0], &str>("bearerAuth", []));
        }
        operation.build()
    }
}

/// The routes as one surface beside the others.
///
/// # Errors
/// A path that does not begin with `/`.
pub(super) fn surface(routes: &[Route]) -> Result<Surface, ServeError> {
    let mut router = Router::new();
    let mut access = AccessTable::default();
    let mut paths = Paths::new();
    for route in routes {
        if !route.path.starts_with('/') {
            return Err(ServeError::Route(route.to_string()));
        }
        router = router.route(&route.path, route.handler.clone());
        access = access.with(route.path.clone(), route.access);
        let method = match route.method {
            Method::POST => HttpMethod::Post,
            Method::PUT => HttpMethod::Put,
            Method::PATCH => HttpMethod::Patch,
            Method::DELETE => HttpMethod::Delete,
            Method::OPTIONS => HttpMethod::Options,
            _ => HttpMethod::Get,
        };
        let item = PathItem::new(method, route.operation());
        match paths.paths.get_mut(&route.path) {
            Some(there) => there.merge_operations(item),
            None => drop(paths.paths.insert(route.path.clone(), item)),
        }
    }
    let document: OpenApi = OpenApiBuilder::new().paths(paths).build();
    Ok(Surface { router, access, document })
}
