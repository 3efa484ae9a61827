//! Every setting, read in the order in which the example file shows them.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use agent_hub_protocol::limits;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    AgentConfig, AuthConfig, AuthMode, Config, FsyncPolicy, Inputs, JwksAlgorithm, LogConfig, LogFormat, MessageRate, Mistake,
    ProviderConfig, ProviderKind, ServerConfig, Source, StorageConfig, StorageKind, Synchronous, VendorConfig, acting,
    layers::Layers,
    reader::Reader,
    secrets,
    value::{Bytes, HttpUrl, Origin, Setting, choice},
};
use crate::{
    expression::Expression,
    runtime::{
        RuntimeSettings,
        settings::{DailyQuota, QuotaSettings, RateSettings},
        template::Template,
    },
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The agent there always is.
const ASSISTANT: &str = "assistant";

const LIMITS: &str =
    "\"off\" lifts rate limits, quotas and the bounds per user and address, for load tests; never sizes, never the bounds of the process.";

/// Whether limits hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limits {
    On,
    Off,
}

choice!(Limits { "on" => Limits::On, "off" => Limits::Off });
choice!(StorageKind { "memory" => StorageKind::Memory, "file" => StorageKind::File, "sqlite" => StorageKind::Sqlite });
choice!(Synchronous { "normal" => Synchronous::Normal, "full" => Synchronous::Full });
choice!(FsyncPolicy { "never" => FsyncPolicy::Never, "always" => FsyncPolicy::Always });
choice!(ProviderKind { "demo" => ProviderKind::Demo, "openai" => ProviderKind::OpenAi, "anthropic" => ProviderKind::Anthropic });
choice!(LogFormat { "text" => LogFormat::Text, "json" => LogFormat::Json });
choice!(JwksAlgorithm { "rs256" => JwksAlgorithm::Rs256, "es256" => JwksAlgorithm::Es256, "eddsa" => JwksAlgorithm::EdDsa });

pub(super) fn read(inputs: &Inputs) -> Result<Config, Vec<Mistake>> {
    let mut reader = Reader::new(Layers::gather(inputs));
    let r = &mut reader;
    r.section("", "");
    let limits_off = r.take("limits", LIMITS, Limits::On) == Limits::Off;
    if limits_off {
        r.lift_limits();
    }
    let data_dir = r.take("data_dir", "Where the hub keeps what it makes itself.", PathBuf::from("./data"));
    let default_agent = r.take("default_agent", "The agent of sessions that name none.", ASSISTANT.to_owned());
    let server = server(r, inputs.open_files);
    let auth = auth(r, &data_dir, server.host);
    refuse_any_origin(r, &server, &auth);
    let storage = storage(r, &data_dir);
    let runtime = runtime(r, storage.kind);
    let provider = provider(r);
    let agents = agents(r, &provider, &default_agent);
    require_keys(r, &provider, &agents);
    let workspace = acting::workspace(r);
    let tools = acting::tools(r);
    let workflows = acting::workflows(r, &agents);
    let dependencies = acting::dependencies(r);
    let (log, otlp_endpoint) = observability(r);
    let report = reader.finish()?;
    Ok(Config {
        limits_off,
        data_dir,
        server,
        auth,
        storage,
        provider,
        default_agent,
        agents,
        workspace,
        tools,
        workflows,
        dependencies,
        runtime,
        log,
        otlp_endpoint,
        report,
    })
}

fn server(r: &mut Reader, open_files: Option<usize>) -> ServerConfig {
    r.section("server", "the front");
    let host = r.take("server.host", "Anything but loopback needs a JWT_SECRET or a key set.", IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port = r.optional("server.port", "Not set: the next free one from 3000 on. Set: that one or none. 0: the system chooses.", &3000);
    let origins: Vec<Origin> = r.take("server.allowed_origins", "Web origins besides the hub's own, exactly.", Vec::new());
    let hosts =
        r.take_if("server.allowed_hosts", "Host names besides the loopback ones, without port.", Vec::new(), |names: &Vec<String>| {
            host_names(names)
        });
    let trusted_proxies: Vec<IpNet> =
        r.take("server.trusted_proxies", "Proxies whose X-Forwarded-For is believed: addresses or networks.", Vec::new());
    // A fifth of the files stays for the store and for connections to vendors.
    let most = open_files.map_or(usize::MAX, |files| (files * 4 / 5).max(16));
    let max_connections = r.within("server.max_connections", "Of the process; at most 80 % of its open files.", most.min(10_000), 1, most);
    let connections_per_user = r.limit("server.connections_per_user", "Sockets that stay, of one user.", 20);
    let connections_per_address = r.limit("server.connections_per_address", "Sockets that stay, of one address (IPv6: /64).", 100);
    let attached_sessions = r.within("server.attached_sessions", "Sessions one socket may be attached to.", 10, 1, 10_000);
    let message_rate = message_rate(r);
    let Bytes(message_bytes) = r.within(
        "server.message_bytes",
        "One WebSocket message or HTTP body.",
        Bytes(limits::MESSAGE_BYTES),
        Bytes(16 * 1024),
        Bytes(64 * 1024 * 1024),
    );
    let mut time = |key, about, default, least, most| r.within(key, about, default, least, most);
    let header_timeout = time("server.header_timeout", "From accept to the whole request head.", 5 * SECOND, SECOND, MINUTE);
    let idle_timeout = time("server.idle_timeout", "Between two requests of one connection.", 15 * SECOND, SECOND, 10 * MINUTE);
    let body_timeout = time("server.body_timeout", "From the head to the whole body.", 15 * SECOND, SECOND, 10 * MINUTE);
    let heartbeat =
        time("server.heartbeat", "Between pings; closed after two silent ones.", 20 * SECOND, Duration::from_millis(100), 10 * MINUTE);
    let sse_keep_alive =
        time("server.sse_keep_alive", "A silent SSE stream says this often that it lives.", 15 * SECOND, SECOND, 10 * MINUTE);
    let stall_timeout = time(
        "server.stall_timeout",
        "A peer that accepts no byte for this long is closed.",
        30 * SECOND,
        Duration::from_millis(100),
        10 * MINUTE,
    );
    let max_socket_age = time("server.max_socket_age", "Then a socket is asked to come back.", DAY, SECOND, 30 * DAY);
    let drain = time("server.drain", "How long a stop may take.", 10 * SECOND, Duration::ZERO, 10 * MINUTE);
    let (least, most) = (Bytes(4 * 1024), Bytes(64 * 1024 * 1024));
    let Bytes(socket_window) = r.within("server.socket_window", "Written but not yet taken by one socket.", Bytes(256 * 1024), least, most);
    let Bytes(send_buffer) =
        r.within("server.send_buffer", "SO_SNDBUF: the kernel hides slow readers in it.", Bytes(64 * 1024), least, most);
    ServerConfig {
        host,
        port,
        allowed_origins: origins.into_iter().map(|origin| origin.0).collect(),
        allowed_hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        trusted_proxies,
        max_connections,
        connections_per_user,
        connections_per_address,
        attached_sessions,
        message_rate,
        message_bytes,
        header_timeout,
        idle_timeout,
        body_timeout,
        heartbeat,
        sse_keep_alive,
        stall_timeout,
        socket_window,
        send_buffer,
        max_socket_age,
        drain,
    }
}

fn message_rate(r: &mut Reader) -> Option<MessageRate> {
    let per_second = r.limit("server.messages_per_second", "Of one socket.", 20);
    let burst = r.within("server.message_burst", "Of one socket, at once.", 60, 1, 1_000_000);
    if per_second == Some(0) {
        r.refuse("server.messages_per_second", "must be at least 1, or \"off\"");
    }
    per_second.map(|per_second| MessageRate { per_second, burst })
}

fn host_names(names: &[String]) -> Result<(), String> {
    let fine = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    match names.iter().find(|name| !fine(name)) {
        Some(name) => Err(format!("{name:?} is not a host name; write it without scheme, port and path")),
        None => Ok(()),
    }
}

fn auth(r: &mut Reader, data_dir: &Path, host: IpAddr) -> AuthConfig {
    r.section("auth", "who may come in; with nothing set: development mode, loopback only, a secret made once");
    let current = signing_secret(r, "auth.jwt_secret", "HS256, at least 32 bytes. Better in the environment (JWT_SECRET) than here.");
    let previous = signing_secret(r, "auth.previous_jwt_secret", "Still verifies while a rotation lasts.");
    let jwks = r.optional(
        "auth.jwks_url",
        "Public keys of an identity provider, instead of a secret.",
        &HttpUrl("https://id.example.com/.well-known/jwks.json".to_owned()),
    );
    let algorithm = r.take("auth.jwks_algorithm", "The one algorithm the key set is used with: rs256, es256, eddsa.", JwksAlgorithm::Rs256);
    let issuer = r.optional("auth.issuer", "The iss every token must have.", &"https://id.example.com".to_owned());
    let audience = r.optional("auth.audience", "The aud every token must have.", &"agent-hub".to_owned());
    let query_token = r.take("auth.query_token", "Whether ?token= is accepted where a browser cannot send a header.", true);
    let anonymous = r.optional(
        "auth.anonymous",
        "The user that adapters of systems without authentication act as. Development: \"dev\" unless set.",
        &"guest".to_owned(),
    );
    if current.is_some() && jwks.is_some() {
        r.refuse("auth.jwks_url", "is set together with auth.jwt_secret; tokens are checked against one of them, so set one");
    }
    if previous.is_some() && current.is_none() {
        r.refuse("auth.previous_jwt_secret", "is set without auth.jwt_secret");
    }
    // A secret that was given but is wrong is already a mistake; it is not an absent one.
    let development = jwks.is_none() && !r.is_given("auth.jwt_secret") && !r.is_given("auth.jwks_url");
    if development && !host.is_loopback() {
        let text = format!("{host} can be reached from other machines, so tokens need a secret: set JWT_SECRET (or auth.jwks_url)");
        r.refuse("server.host", text);
    }
    let mode = match (current, jwks) {
        (Some(current), _) => AuthMode::Secret { current, previous },
        (None, Some(HttpUrl(url))) => AuthMode::Jwks { url, algorithm },
        (None, None) => AuthMode::Development { secret_file: data_dir.join("dev-secret") },
    };
    let anonymous = anonymous.or_else(|| development.then(|| "dev".to_owned()));
    AuthConfig { mode, issuer, audience, query_token, anonymous }
}

fn signing_secret(r: &mut Reader, key: &str, about: &'static str) -> Option<SecretString> {
    let secret = r.secret(key, about)?;
    let exposed = match r.source(key) {
        Source::File(path) => secrets::exposure(Path::new(&path)),
        Source::Default | Source::Environment(_) | Source::Flag(_) | Source::Setting(_) => None,
    };
    match secrets::weakness(secret.expose_secret()).or(exposed) {
        None => Some(secret),
        Some(why) => {
            r.refuse(key, why);
            None
        }
    }
}

fn refuse_any_origin(r: &mut Reader, server: &ServerConfig, auth: &AuthConfig) {
    if server.allowed_origins.iter().any(|origin| origin == "*") && !matches!(auth.mode, AuthMode::Development { .. }) {
        r.refuse("server.allowed_origins", "\"*\" lets every web page on the internet act for your users; name the origins");
    }
}

fn storage(r: &mut Reader, data_dir: &Path) -> StorageConfig {
    r.section("storage", "where logs and records live");
    // Known, but not built: a clearer answer than "expected one of".
    let redis = r.text("storage.type").is_some_and(|kind| kind.eq_ignore_ascii_case("redis"));
    let kind = if redis {
        r.refuse("storage.type", "redis is not available in this version; use \"sqlite\", \"file\" or \"memory\"");
        r.withdraw("storage.type");
        StorageKind::Sqlite
    } else {
        r.take("storage.type", "memory (nothing survives a restart), file, sqlite.", StorageKind::Sqlite)
    };
    let default = match kind {
        StorageKind::Sqlite | StorageKind::Memory => data_dir.join("agent-hub.db"),
        StorageKind::File => data_dir.join("log"),
    };
    let path: PathBuf = r.take("storage.path", "The database file of sqlite, the directory of file.", default);
    if kind == StorageKind::Sqlite && path.is_dir() {
        r.refuse("storage.path", format!("{} is a directory; for sqlite it is the database file", path.display()));
    }
    if kind == StorageKind::File && path.is_file() {
        r.refuse("storage.path", format!("{} is a file; for storage.type = \"file\" it is a directory", path.display()));
    }
    let synchronous =
        r.take("storage.synchronous", "sqlite: normal survives kill -9, full also a loss of power (slower).", Synchronous::Normal);
    let fsync = r.take("storage.fsync", "file: never survives kill -9, always also a loss of power (slower).", FsyncPolicy::Never);
    StorageConfig { kind, path, synchronous, fsync }
}

fn runtime(r: &mut Reader, storage: StorageKind) -> RuntimeSettings {
    let d = RuntimeSettings::default();
    // What lives in memory only must not grow for ever; what lives on disk must not vanish by itself.
    let session_ttl = (storage == StorageKind::Memory).then_some(30 * MINUTE);
    let session_ttl = r.take("storage.session_ttl", "Idle sessions end after this time. memory: \"30 min\" unless set.", session_ttl);
    let retention = r.take("storage.retention", "Sessions nobody has written to for this time are erased.", None::<Duration>);

    r.section("runtime", "tasks and sessions");
    let tasks_per_user = r.limit("runtime.tasks_per_user", "Of one user, at the same time.", 3);
    let tasks_per_node = r.within("runtime.tasks_per_node", "Of all users, at the same time.", d.tasks_per_node, 1, 100_000);
    let tasks_per_session = r.limit("runtime.tasks_per_session", "In one session, over its whole life.", limits::TASKS_PER_SESSION);
    let queued_per_session = r.limit("runtime.queued_per_session", "Waiting in one session.", 8);
    let prompt_chars = r.within("runtime.prompt_chars", "Of a prompt or steering input.", d.prompt_chars, 1, 10_000_000);
    let mut time = |key, about, default, least, most| r.within(key, about, default, least, most);
    let max_task_timeout =
        time("runtime.max_task_timeout", "The longest deadline a task may ask for.", d.max_task_timeout, SECOND, 30 * DAY);
    let task_timeout = time("runtime.task_timeout", "A task's deadline, in running time.", d.task_timeout, SECOND, 30 * DAY);
    let stop_grace = time("runtime.stop_grace", "For stopped work to confirm.", d.stop_grace, Duration::ZERO, MINUTE);
    let idle_unload = time(
        "runtime.idle_unload",
        "Then a session nobody follows leaves memory; its events do after a tenth of it.",
        d.idle_unload,
        Duration::ZERO,
        30 * DAY,
    );
    let ids_stay_taken = time("runtime.ids_stay_taken", "Of erased sessions and tasks.", d.ids_stay_taken, Duration::ZERO, YEAR);
    let client_tool_timeout = time(
        "runtime.client_tool_timeout",
        "A call of a tool that a client executes waits this long for its result.",
        d.client_tool_timeout,
        SECOND,
        DAY,
    );
    let input_expiry = time("runtime.input_expiry", "A request for input waits this long for a person.", d.input_expiry, SECOND, YEAR);
    if task_timeout > max_task_timeout {
        r.refuse("runtime.task_timeout", format!("is longer than runtime.max_task_timeout ({})", max_task_timeout.show()));
    }
    let max_attempts = r.within("runtime.max_attempts", "Starts of one task, if the hub stops while it runs.", d.max_attempts, 1, 100);
    let max_steps =
        r.within("runtime.max_steps", "Model calls of one task at most, with its sub-agents'; usually 10.", d.max_steps, 1, 10_000);
    let (least, most) = (Bytes(1024), Bytes(64 * 1024 * 1024));
    let Bytes(answer_bytes) =
        r.within("runtime.answer_bytes", "Text of one model call; longer is cut.", Bytes(d.answer_bytes), least, most);
    let tail_events = r.within("runtime.tail_events", "Recent events of a session kept in memory.", d.tail_events, 16, 1_000_000);
    let (least, most) = (Bytes(16 * 1024), Bytes(1024 * 1024 * 1024));
    let Bytes(tail_bytes) = r.within("runtime.tail_bytes", "The same in bytes.", Bytes(d.tail_bytes), least, most);
    let inbox = r.within("runtime.inbox", "Commands that wait for one session.", d.inbox, 8, 100_000);
    let (rates, quotas) = (rates(r), quotas(r));
    RuntimeSettings {
        rates,
        quotas,
        tasks_per_user,
        tasks_per_node,
        tasks_per_session,
        queued_per_session,
        prompt_chars,
        task_timeout,
        max_task_timeout,
        stop_grace,
        max_attempts,
        max_steps,
        answer_bytes,
        idle_unload,
        session_ttl,
        retention,
        ids_stay_taken,
        tail_events,
        tail_bytes,
        inbox,
        input_expiry,
        client_tool_timeout,
    }
}

fn rates(r: &mut Reader) -> Option<RateSettings> {
    r.section("rates", "requests of one user; lifted by limits = \"off\"");
    let d = RateSettings::default();
    let mut rate = |key, about, default| r.within(key, about, default, 1, 1_000_000);
    let rates = RateSettings {
        sessions_per_minute: rate("rates.sessions_per_minute", "Sessions created.", d.sessions_per_minute),
        tasks_per_minute: rate("rates.tasks_per_minute", "Tasks submitted and steered.", d.tasks_per_minute),
        polls_per_second: rate("rates.polls_per_second", "Reads of a task's state.", d.polls_per_second),
        tasks_per_hour: None,
        failed_auth_per_minute: rate(
            "rates.failed_auth_per_minute",
            "Failed authentications of one address (IPv6: /64); then it is blocked for a minute.",
            d.failed_auth_per_minute,
        ),
    };
    let tasks_per_hour = r.optional(
        "rates.tasks_per_hour",
        "Tasks submitted and steered in an hour, at once if need be; then tasks_per_minute is without effect.",
        &100,
    );
    if tasks_per_hour == Some(0) {
        r.refuse("rates.tasks_per_hour", "must be at least 1");
    }
    let rates = RateSettings { tasks_per_hour, ..rates };
    (!r.limits_are_lifted()).then_some(rates)
}

fn quotas(r: &mut Reader) -> Option<QuotaSettings> {
    r.section("quotas", "what each plan may do in a day (UTC); lifted by limits = \"off\"");
    let d = QuotaSettings::default();
    let mut day = |plan: &str, default: DailyQuota| DailyQuota {
        sessions: r.take(&format!("quotas.{plan}.sessions"), "", default.sessions),
        tasks: r.take(&format!("quotas.{plan}.tasks"), "", default.tasks),
    };
    let quotas = QuotaSettings { free: day("free", d.free), pro: day("pro", d.pro), enterprise: day("enterprise", d.enterprise) };
    (!r.limits_are_lifted()).then_some(quotas)
}

fn provider(r: &mut Reader) -> ProviderConfig {
    r.section("provider", "who answers");
    let kind =
        r.take("provider.type", "demo (built in, offline), openai (and everything that speaks like it), anthropic.", ProviderKind::Demo);
    let model = r.optional("provider.model", "The provider's own default unless set.", &"gpt-5-mini".to_owned());
    let demo_pace = r.within("provider.demo_pace", "Time per token of demo.", Duration::from_millis(20), Duration::ZERO, MINUTE);
    r.section("provider.openai", "");
    let openai = vendor(r, "provider.openai", "https://api.openai.com/v1");
    r.section("provider.anthropic", "");
    let anthropic = vendor(r, "provider.anthropic", "https://api.anthropic.com/v1");
    ProviderConfig { kind, model, demo_pace, openai, anthropic }
}

fn vendor(r: &mut Reader, name: &str, url: &str) -> VendorConfig {
    let base_url = r.optional(&format!("{name}.base_url"), "The vendor's own unless set.", &HttpUrl(url.to_owned()));
    if base_url.as_ref().is_some_and(|url| url.0.contains('?')) {
        r.refuse(&format!("{name}.base_url"), "has a query; expected what comes before /chat/completions or /messages");
    }
    let api_key = r.secret(&format!("{name}.api_key"), "Better in the environment than here.");
    VendorConfig { base_url: base_url.map(|url| url.0), api_key }
}

fn agents(r: &mut Reader, provider: &ProviderConfig, default_agent: &str) -> Vec<AgentConfig> {
    let mut names = r.names_below("agents.");
    if default_agent != ASSISTANT && !names.contains(default_agent) {
        let known = names.iter().cloned().collect::<Vec<_>>().join(", ");
        r.refuse("default_agent", format!("no agent is named {default_agent:?}; there are: {ASSISTANT}, {known}"));
    }
    names.insert(ASSISTANT.to_owned());
    names.iter().map(|name| agent(r, name, provider)).collect()
}

fn agent(r: &mut Reader, name: &str, provider: &ProviderConfig) -> AgentConfig {
    r.section(&format!("agents.{name}"), "copy this section, with another name, for another agent");
    let key = |field: &str| format!("agents.{name}.{field}");
    let fine = name.len() <= 64 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
    if !fine {
        r.refuse(&format!("agents.{name}"), "an agent's name has lower-case letters, digits, - and _, at most 64");
    }
    let description = r.take(&key("description"), "What it is for, for people.", "A helpful assistant".to_owned());
    let instructions = r.optional(
        &key("instructions"),
        "What the model is told first; {{ userContext.language }} and the like are filled in.",
        &"You are a helpful assistant.".to_owned(),
    );
    let kind = r.take(&key("provider"), "Of [provider] unless set.", provider.kind);
    let own = r.optional(&key("model"), "Of [provider] unless set.", &"gpt-5-mini".to_owned());
    // A model's name means something to one vendor only.
    let model = own.or_else(|| provider.model.clone().filter(|_| kind == provider.kind));
    let fallbacks: Vec<String> =
        r.take(&key("fallbacks"), "Asked when that one does not begin to answer: \"anthropic\", \"openai/gpt-5-mini\".", Vec::new());
    let fallbacks = fallbacks.iter().filter_map(|text| fallback(r, &key("fallbacks"), text)).collect();
    let tools: Vec<String> = r.take(&key("tools"), "It may always call these; \"files__*\" means all that begin so.", Vec::new());
    let approve: Vec<String> =
        r.take(&key("approve"), "Calls of these wait for a yes; \"file_write: arguments.path != 'notes.txt'\": of those.", Vec::new());
    let approve = approve.iter().map(|text| approval(r, &key("approve"), text)).collect();
    let sub_agents: Vec<String> = r.take(&key("sub_agents"), "Agents it may hand work to.", Vec::new());
    let max_steps =
        r.optional(&key("max_steps"), "Model calls of one task, sub-agents' included. Not set: 10, or 10 for each sub-agent.", &10);
    let timeout = r.optional(
        &key("timeout"),
        "The deadline of a task that names none, in running time. runtime.task_timeout unless set.",
        &(5 * MINUTE),
    );
    if timeout.is_some_and(|timeout| timeout < SECOND || timeout > 30 * DAY) {
        r.refuse(&key("timeout"), "must be between 1 s and 30 days");
    }
    let attempts =
        r.optional(&key("attempts"), "Attempts of a model call that has not begun to answer, with growing pauses. 3 unless set.", &3);
    if attempts.is_some_and(|attempts| !(1..=10).contains(&attempts)) {
        r.refuse(&key("attempts"), "must be between 1 and 10");
    }
    for whom in &sub_agents {
        if whom == name {
            r.refuse(&key("sub_agents"), "an agent cannot hand work to itself");
        } else if whom != ASSISTANT && !r.names_below("agents.").contains(whom) {
            r.refuse(&key("sub_agents"), format!("no agent is named {whom:?}"));
        }
    }
    if max_steps == Some(0) {
        r.refuse(&key("max_steps"), "must be at least 1");
    }
    let texts =
        [("instructions", instructions.iter().collect()), ("model", model.iter().collect()), ("tools", tools.iter().collect::<Vec<_>>())];
    for (field, text) in texts.into_iter().flat_map(|(field, texts)| texts.into_iter().map(move |text| (field, text))) {
        if let Err(error) = Template::parse(text.clone()) {
            r.refuse(&key(field), format!("cannot be read: {error}"));
        }
    }
    AgentConfig {
        name: name.to_owned(),
        description,
        instructions,
        provider: kind,
        model,
        fallbacks,
        tools,
        approve,
        sub_agents,
        max_steps,
        timeout,
        attempts,
    }
}

/// `file_write`, or `file_write: arguments.path != "notes.txt"`.
fn approval(r: &mut Reader, key: &str, text: &str) -> (String, Option<String>) {
    let (tool, rule) = text.split_once(':').map_or((text, None), |(tool, rule)| (tool, Some(rule.trim().to_owned())));
    if let Some(Err(error)) = rule.clone().map(Expression::parse) {
        r.refuse(key, format!("the rule for {} cannot be read: {error}", tool.trim()));
    }
    (tool.trim().to_owned(), rule)
}

/// `anthropic`, or `openai/gpt-5-mini`.
fn fallback(r: &mut Reader, key: &str, text: &str) -> Option<(ProviderKind, Option<String>)> {
    let (kind, model) = text.split_once('/').map_or((text, None), |(kind, model)| (kind, Some(model.to_owned())));
    let known = ProviderKind::parse(kind).filter(|_| model.as_ref().is_none_or(|model| !model.is_empty()));
    if known.is_none() {
        r.refuse(
            key,
            format!("{text:?} is not a provider, or a provider, a slash and a model; the providers: {}", ProviderKind::allowed()),
        );
    }
    known.map(|kind| (kind, model))
}

/// Every vendor somebody relies on needs a key; one that only imitates OpenAI may do without.
fn require_keys(r: &mut Reader, provider: &ProviderConfig, agents: &[AgentConfig]) {
    let asks = |agent: &AgentConfig, kind| agent.provider == kind || agent.fallbacks.iter().any(|(fallback, _)| *fallback == kind);
    let used = |kind| provider.kind == kind || agents.iter().any(|agent| asks(agent, kind));
    let openai = &provider.openai;
    if used(ProviderKind::OpenAi) && openai.api_key.is_none() && openai.base_url.is_none() {
        r.refuse("provider.openai.api_key", "is needed for openai: set OPENAI_API_KEY (or OPENAI_BASE_URL of a server that needs none)");
    }
    if used(ProviderKind::Anthropic) && provider.anthropic.api_key.is_none() {
        r.refuse("provider.anthropic.api_key", "is needed for anthropic: set ANTHROPIC_API_KEY");
    }
}

fn observability(r: &mut Reader) -> (LogConfig, Option<String>) {
    r.section("log", "on standard error; never tokens, keys or prompts");
    let format = r.take("log.format", "text or json.", LogFormat::Text);
    let filter =
        r.take_if("log.filter", "A level, or levels by module: \"agent_hub=debug,info\".", "info,rmcp=warn".to_owned(), |filter| {
            let parsed = filter.parse::<tracing_subscriber::filter::Targets>();
            parsed.map(|_| ()).map_err(|_| "expected a level (error, warn, info, debug, trace) or module=level, with commas".to_owned())
        });
    r.section("otlp", "traces");
    let endpoint = r.optional("otlp.endpoint", "An OTLP/HTTP collector. Not set: no traces.", &HttpUrl("http://127.0.0.1:4318".to_owned()));
    if endpoint.is_some() && !cfg!(feature = "otlp") {
        r.refuse("otlp.endpoint", "this build has no OpenTelemetry (feature otlp)");
    }
    (LogConfig { format, filter }, endpoint.map(|url| url.0))
}
