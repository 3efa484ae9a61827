//! What the hub says about its configuration, and how it ends when it cannot start.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use agent_hub::{
    auth::Authenticator,
    config::{AuthMode, Config, Inputs, ProviderKind, StorageKind},
    runtime::Plan,
};
use assert_cmd::Command;
use tempfile::TempDir;

const SECRET: &str = "a-secret-that-is-long-enough-0123456789";

fn environment(variables: &[(&str, &str)]) -> Inputs {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Inputs { environment, ..Inputs::default() }
}

fn load(variables: &[(&str, &str)]) -> Config {
    Config::load(&environment(variables)).expect("a valid configuration")
}

/// Every mistake, as a person reads it.
fn mistakes(inputs: &Inputs) -> Vec<String> {
    let found = Config::load(inputs).expect_err("mistakes");
    found.0.iter().map(ToString::to_string).collect()
}

fn file(directory: &TempDir, text: &str) -> String {
    let path = directory.path().join("hub.toml");
    fs::write(&path, text).expect("written");
    path.to_string_lossy().into_owned()
}

fn hub(directory: &Path) -> Command {
    let mut command = Command::cargo_bin("agent-hub").expect("built");
    command.env_clear().current_dir(directory).timeout(Duration::from_secs(20));
    command
}

#[test]
fn nothing_configured_is_development_on_loopback_with_sqlite_and_demo() {
    let config = load(&[]);
    assert!(config.is_development() && config.server.host.is_loopback() && config.server.port.is_none());
    assert_eq!((config.storage.kind, config.provider.kind), (StorageKind::Sqlite, ProviderKind::Demo));
    assert_eq!((config.runtime.session_ttl, config.runtime.retention), (None, None));
    assert_eq!(config.auth.anonymous.as_deref(), Some("dev"));
    assert_eq!(config.agents.len(), 1);
    assert_eq!(load(&[("STORAGE_TYPE", "memory")]).runtime.session_ttl, Some(Duration::from_secs(1800)));
}

#[test]
fn the_short_names_alone_are_enough() {
    let config = load(&[
        ("HOST", "0.0.0.0"),
        ("PORT", "4000"),
        ("JWT_SECRET", SECRET),
        ("ALLOWED_ORIGINS", "https://app.example.com, http://localhost:5173"),
        ("ALLOWED_HOSTS", "Hub.Example.com"),
        ("STORAGE_TYPE", "file"),
        ("STORAGE_PATH", "/tmp/hub-log"),
        ("WORKSPACE_PATH", "/tmp/hub-work"),
        ("MODEL_PROVIDER", "openai"),
        ("MODEL_ID", "local-model"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1"),
        ("ANTHROPIC_BASE_URL", ""),
        ("UNRELATED", "x"),
    ]);
    assert!(!config.is_development());
    assert_eq!((config.server.host.to_string().as_str(), config.server.port), ("0.0.0.0", Some(4000)));
    assert_eq!(config.server.allowed_origins, ["https://app.example.com", "http://localhost:5173"]);
    assert_eq!(config.server.allowed_hosts, ["hub.example.com"]);
    assert_eq!((config.storage.kind, config.storage.path.as_path()), (StorageKind::File, Path::new("/tmp/hub-log")));
    assert_eq!(config.agents[0].model.as_deref(), Some("local-model"));
    assert_eq!(config.provider.anthropic.base_url, None, "an empty variable is not given");
    assert_eq!(config.auth.anonymous, None, "in production nobody is anonymous unless it is said");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let directory = tempfile::tempdir().expect("directory");
    let text = "[server]\nport = 1\nheartbeat = \"11 s\"\ndrain = \"3 s\"\n[quotas.free]\ntasks = 7\n[agents.helper]\nmodel = \"m\"\n";
    let mut inputs = environment(&[
        ("PORT", "2"),
        ("AGENT_HUB_SERVER__HEARTBEAT", "12s"),
        ("AGENT_HUB_QUOTAS__PRO__TASKS", "9"),
        ("AGENT_HUB_AGENTS__HELPER__DESCRIPTION", "helps"),
    ]);
    inputs.file = Some(file(&directory, text));
    let config = Config::load(&inputs).expect("valid");
    assert_eq!((config.server.port, config.server.heartbeat, config.server.drain), (Some(2), secs(12), secs(3)));
    let quotas = config.runtime.quotas.expect("quotas");
    assert_eq!((quotas.free.tasks, quotas.pro.tasks, quotas.enterprise.tasks), (7, 9, 10_000));
    let helper = config.agents.iter().find(|agent| agent.name == "helper").expect("configured");
    assert_eq!((helper.description.as_str(), helper.model.as_deref()), ("helps", Some("m")));

    inputs.flags = vec![("--port".to_owned(), "server.port".to_owned(), "3".to_owned())];
    assert_eq!(Config::load(&inputs).expect("valid").server.port, Some(3));

    let both = load(&[("AGENT_HUB_SERVER__PORT", "5"), ("PORT", "6")]);
    assert_eq!(both.server.port, Some(5), "the long name is the more deliberate one");
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn every_mistake_is_reported_at_once_with_its_key_and_source() {
    let directory = tempfile::tempdir().expect("directory");
    let text = "nonsense = 1\n[server]\nheartbet = \"1 s\"\nstall_timeout = \"soon\"\nport = [1, 2]\n\
                [storage]\ntype = \"postgres\"\n[agents.Bad]\nmodel = \"m\"\n[agents.two]\nprovider = \"anthropic\"\n";
    let mut inputs = environment(&[
        ("JWT_SECRET", "short-secret"),
        ("ALLOWED_ORIGINS", "example.com"),
        ("AGENT_HUB_RUNTIME__TASKS_PER_USER", "-1"),
        ("AGENT_HUB_RUNTIME__MAX_STEP", "3"),
        ("AGENT_HUB_TYPO", "1"),
        ("MODEL_PROVIDER", "openai"),
        ("OPENAI_BASE_URL", "https://user:hunter2@example.com/v1"),
        ("AGENT_HUB_LOG", "loud=very"),
    ]);
    inputs.file = Some(file(&directory, text));
    let found = mistakes(&inputs);
    let source = format!("(file {})", inputs.file.as_deref().unwrap_or_default());
    for (key, source, text) in [
        ("nonsense", source.as_str(), "no such setting"),
        ("server.heartbet", &source, "did you mean server.heartbeat?"),
        ("server.stall_timeout", &source, "expected a time such as"),
        ("server.port", &source, "expected a whole number"),
        ("storage.type", &source, "\"memory\", \"file\", \"sqlite\""),
        ("agents.Bad", "", "lower-case letters"),
        ("auth.jwt_secret", "(environment JWT_SECRET)", "at least 32"),
        ("server.allowed_origins", "(environment ALLOWED_ORIGINS)", "https://app.example.com"),
        ("runtime.tasks_per_user", "(environment AGENT_HUB_RUNTIME__TASKS_PER_USER)", "or \"off\""),
        ("runtime.max_step", "(environment AGENT_HUB_RUNTIME__MAX_STEP)", "did you mean runtime.max_steps?"),
        ("typo", "(environment AGENT_HUB_TYPO)", "no such setting"),
        ("provider.openai.base_url", "(environment OPENAI_BASE_URL)", "without user and password"),
        ("provider.openai.api_key", "", "set OPENAI_API_KEY"),
        ("provider.anthropic.api_key", "", "set ANTHROPIC_API_KEY"),
        ("log.filter", "(environment AGENT_HUB_LOG)", "expected a level"),
    ] {
        let told = found.iter().find(|line| line.starts_with(&format!("{key} ("))).unwrap_or_else(|| panic!("{key} is not in {found:#?}"));
        assert!(told.contains(source) && told.contains(text), "{told}");
    }
    assert_eq!(found.len(), 15, "{found:#?}");
    let all = found.join("\n");
    assert!(!all.contains("short-secret") && !all.contains("hunter2"), "{all}");
}

#[test]
fn weak_secrets_and_open_addresses_without_one_are_refused() {
    let long = "a".repeat(64);
    for weak in
        ["", "secret", "dev-secret-change-me", "changeme-changeme-changeme-changeme-changeme", &long, "31-bytes-are-not-enough-for-it-"]
    {
        let found = mistakes(&environment(&[("JWT_SECRET", weak), ("HOST", "0.0.0.0")]));
        assert!(found.len() == 1 && found[0].starts_with("auth.jwt_secret (environment JWT_SECRET)"), "{weak:?}: {found:?}");
    }
    for open in ["0.0.0.0", "::", "192.168.1.5"] {
        let found = mistakes(&environment(&[("HOST", open)]));
        assert!(found.len() == 1 && found[0].contains("set JWT_SECRET"), "{found:?}");
    }
    for closed in ["127.0.0.1", "::1", "localhost"] {
        assert!(load(&[("HOST", closed)]).is_development());
    }
    let two = mistakes(&environment(&[("JWT_SECRET", SECRET), ("AGENT_HUB_AUTH__JWKS_URL", "https://id.example/keys")]));
    assert!(two.len() == 1 && two[0].contains("set one"), "{two:?}");
    let any = mistakes(&environment(&[("JWT_SECRET", SECRET), ("ALLOWED_ORIGINS", "*")]));
    assert!(any.len() == 1 && any[0].contains("name the origins"), "{any:?}");
}

#[test]
fn a_secret_in_a_file_everybody_can_read_is_none() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("directory");
    let path = file(&directory, &format!("[auth]\njwt_secret = \"{SECRET}\"\n"));
    let inputs = Inputs { file: Some(path.clone()), ..Inputs::default() };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    let found = mistakes(&inputs);
    assert!(found.len() == 1 && found[0].contains("chmod"), "{found:?}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    assert!(matches!(Config::load(&inputs).expect("valid").auth.mode, AuthMode::Secret { .. }));
}

#[test]
fn redis_is_a_clear_refusal() {
    let found = mistakes(&environment(&[("STORAGE_TYPE", "redis")]));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("redis is not available in this version; use \"sqlite\", \"file\" or \"memory\""), "{found:?}");
}

#[test]
fn limits_off_lifts_what_is_per_user_and_nothing_else() {
    let (on, off) = (load(&[]), load(&[("AGENT_HUB_LIMITS", "off")]));
    assert!(off.limits_off && !on.limits_off);
    let r = &off.runtime;
    assert!(r.rates.is_none() && r.quotas.is_none() && r.tasks_per_user.is_none() && r.tasks_per_session.is_none());
    assert!(r.queued_per_session.is_none());
    let s = &off.server;
    assert!(s.connections_per_user.is_none() && s.connections_per_address.is_none() && s.message_rate.is_none());
    assert_eq!((s.max_connections, s.message_bytes, s.socket_window), (10_000, 1024 * 1024, 256 * 1024));
    assert_eq!((r.prompt_chars, r.tasks_per_node), (on.runtime.prompt_chars, on.runtime.tasks_per_node));
    assert_eq!(on.server.connections_per_user, Some(20));
    let one = load(&[("AGENT_HUB_SERVER__CONNECTIONS_PER_USER", "off")]);
    assert_eq!((one.server.connections_per_user, one.server.connections_per_address), (None, Some(100)));
}

#[test]
fn connections_leave_files_for_the_store() {
    let with = |files| Inputs { open_files: Some(files), ..Inputs::default() };
    assert_eq!(Config::load(&with(1024)).expect("valid").server.max_connections, 819);
    assert_eq!(Config::load(&with(100_000)).expect("valid").server.max_connections, 10_000);
    let mut too_many = with(1024);
    too_many.environment = vec![("AGENT_HUB_SERVER__MAX_CONNECTIONS".to_owned(), "1000".to_owned())];
    assert!(mistakes(&too_many)[0].contains("between 1 and 819"));
}

#[test]
fn the_printed_configuration_has_no_secret_and_reads_back() {
    let key = "sk-a-key-nobody-may-see";
    let variables = [("JWT_SECRET", SECRET), ("OPENAI_API_KEY", key), ("PORT", "4000"), ("AGENT_HUB_SERVER__HEARTBEAT", "90 s")];
    let config = load(&variables);
    let shown = config.report.effective();
    assert!(!shown.contains(SECRET) && !shown.contains(key), "{shown}");
    assert!(!format!("{config:?}").contains(SECRET) && !format!("{config:?}").contains(key));
    assert!(shown.contains("jwt_secret = \"***\"  # environment JWT_SECRET"), "{shown}");
    assert!(shown.contains("heartbeat = \"90 s\"  # environment AGENT_HUB_SERVER__HEARTBEAT"), "{shown}");

    let directory = tempfile::tempdir().expect("directory");
    let public: String = shown.lines().filter(|line| !line.contains("***")).map(|line| format!("{line}\n")).collect();
    let inputs = Inputs { file: Some(file(&directory, &public)), ..environment(&variables) };
    let again = Config::load(&inputs).expect("what is printed is a configuration");
    assert_eq!((again.server.port, again.server.heartbeat), (config.server.port, config.server.heartbeat));
}

#[test]
fn the_example_file_says_the_defaults_and_nothing_else() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent-hub.example.toml");
    let example = Config::example();
    if std::env::var_os("UPDATE_EXAMPLE").is_some() {
        fs::write(&path, &example).expect("written");
    }
    let shipped = fs::read_to_string(&path).expect("shipped");
    assert_eq!(shipped, example, "regenerate it: UPDATE_EXAMPLE=1 cargo test --test it the_example_file");

    // As it is, it changes nothing; with every default uncommented, neither.
    let directory = tempfile::tempdir().expect("directory");
    let uncommented: String = shipped
        .lines()
        .filter(|line| !line.ends_with("# not set"))
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(uncommented.contains("\nheartbeat = \"20 s\"\n"), "{uncommented}");
    for text in [&shipped, &uncommented] {
        let inputs = Inputs { file: Some(file(&directory, text)), ..Inputs::default() };
        let config = Config::load(&inputs).unwrap_or_else(|found| panic!("{found}"));
        let values = |config: &Config| {
            let shown = config.report.effective();
            shown.lines().map(|line| line.split("  #").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(values(&config), values(&load(&[])));
    }
}

#[test]
fn a_wrong_configuration_ends_with_2_and_all_mistakes() {
    let directory = tempfile::tempdir().expect("directory");
    let output = hub(directory.path()).env("PORT", "seven").env("JWT_SECRET", "secret").arg("--log").arg("xml").output().expect("ran");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["3 mistakes", "server.port (environment PORT)", "auth.jwt_secret", "log.format (flag --log)"] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    hub(directory.path()).arg("--no-such-flag").assert().code(2);
    hub(directory.path()).args(["--config", "missing.toml"]).assert().code(2);
    hub(directory.path()).args(["--set", "server.port"]).assert().code(2);
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0, "nothing is made before the configuration is right");
}

#[test]
fn a_taken_port_ends_with_3_and_touches_no_store() {
    let directory = tempfile::tempdir().expect("directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = taken.local_addr().expect("bound").port();
    let output = hub(directory.path()).args(["--port", &port.to_string()]).output().expect("ran");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains(&format!("127.0.0.1:{port} is in use by another process")), "{told}");
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0);
}

#[test]
fn a_minted_token_is_good_for_the_hub_that_has_the_secret() {
    let directory = tempfile::tempdir().expect("directory");
    let output = hub(directory.path())
        .env("JWT_SECRET", SECRET)
        .args(["token", "--user", "ada", "--plan", "pro", "--scope", "metrics", "--ttl", "10 min"])
        .output()
        .expect("ran");
    assert!(output.status.success() && output.stderr.is_empty());
    let auth = Authenticator::open(&load(&[("JWT_SECRET", SECRET)]).auth).expect("open");
    let token = String::from_utf8(output.stdout).expect("text");
    let ada = auth.verify(token.trim_end()).expect("verified");
    assert_eq!((ada.user(), ada.plan(), ada.has_scope("metrics")), ("ada", Plan::Pro, true));

    // In development mode the secret is made by whoever comes first, and stays.
    let mint = || hub(directory.path()).args(["token", "--user", "ada"]).output().expect("ran").stdout;
    let first = String::from_utf8(mint()).expect("text");
    let mut config = load(&[]).auth;
    config.mode = AuthMode::Development { secret_file: directory.path().join("data/dev-secret") };
    assert!(Authenticator::open(&config).expect("open").verify(first.trim_end()).is_ok());

    for wrong in
        [&["token"][..], &["token", "--user", "a", "--plan", "gold"], &["token", "--user", "a", "--ttl", "soon"], &["token", "--user", ""]]
    {
        hub(directory.path()).args(wrong).assert().code(2);
    }
}

#[test]
fn the_printed_configuration_of_the_program() {
    let directory = tempfile::tempdir().expect("directory");
    let output = hub(directory.path()).env("JWT_SECRET", SECRET).args(["--print-config", "--port", "4123"]).output().expect("ran");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("port = 4123  # flag --port") && !shown.contains(SECRET), "{shown}");
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0, "looking makes nothing");
}
