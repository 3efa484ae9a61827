//! What is never shown. Workspaces may be filled by people, and people leave keys in them; a model that reads one may repeat it to anybody.
//!
//! The list is fixed. It is refused for reading, writing (so that nothing is planted: hooks, keys that open a machine) and looking up, and left out of listings. Letters match in either case, and dots and spaces at
//! the end of a name do not count, because some file systems see it so.

/// Directories and files of these names, and all below them.
const NAMES: [&str; 29] = [
    ".ssh",
    ".aws",
    ".azure",
    ".gnupg",
    ".kube",
    ".docker",
    ".dockercfg",
    ".gcloud",
    ".password-store",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".git-credentials",
    ".gitconfig",
    ".vault-token",
    ".boto",
    ".s3cfg",
    ".terraformrc",
    ".bash_history",
    ".zsh_history",
    ".psql_history",
    ".node_repl_history",
    ".python_history",
];
/// Names that begin so. The last is the hub's own: files that are being written, directories that are being removed.
const PREFIXES: [&str; 6] = [".env", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", OWN_PREFIX];
/// Names that end so.
const SUFFIXES: [&str; 11] = [".pem", ".key", ".p12", ".pfx", ".pkcs12", ".ppk", ".jks", ".keystore", ".kdbx", ".tfstate", ".env"];
/// Names below a directory of this name: secrets of remotes, and programs that git runs.
const BELOW: [(&str, &[&str]); 2] =
    [(".git", &["config", "config.worktree", "credentials", "hooks"]), (".config", &["gcloud", "gh", "git", "hub"])];

/// With which the names of the hub's own files begin.
pub(super) const OWN_PREFIX: &str = ".agent-hub-";

/// Whether the path of these names is hidden.
pub(super) fn is_hidden(names: &[&str]) -> bool {
    let names: Vec<String> = names.iter().map(|name| name.trim_end_matches(['.', ' ']).to_lowercase()).collect();
    names.iter().enumerate().any(|(at, name)| {
        let below = |(above, hidden): &(&str, &[&str])| hidden.contains(&name.as_str()) && names[..at].iter().any(|one| one == above);
        NAMES.contains(&name.as_str())
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
            || BELOW.iter().any(below)
    })
}
