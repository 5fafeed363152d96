//! Where texts come from: flags, environment, secret files, a TOML file; the stronger source wins.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use certctl_domain::{secret::Secret, time::Timestamp};

use crate::{
    env::Env,
    names,
    problem::{Problem, Warning},
    setting::{Entry, PREFIX},
};

/// The variable that names the configuration file when no flag does.
pub const CONFIG_VARIABLE: &str = "CERTCTL_CONFIG";

/// The greatest secret file and configuration file read, in bytes: a wrong path must not fill the memory.
const LARGEST_FILE: u64 = 1 << 20;

/// What settings are read from.
pub struct Sources<'a> {
    /// The environment.
    pub env: &'a dyn Env,
    /// The TOML file given as `--config`; `None` falls back on `CERTCTL_CONFIG`, and then on no file.
    pub config: Option<PathBuf>,
    /// Values given as flags: the name in any of the spellings `server-port`, `SERVER_PORT`, `CERTCTL_SERVER_PORT`.
    pub flags: Vec<(String, String)>,
    /// The present time, against which an acknowledgement is checked for freshness.
    pub now: Timestamp,
}

impl<'a> Sources<'a> {
    /// The environment alone.
    #[must_use]
    pub fn from_env(env: &'a dyn Env, now: Timestamp) -> Self {
        Self {
            env,
            config: None,
            flags: Vec::new(),
            now,
        }
    }
}

/// Which source a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// The configuration file.
    ConfigFile(PathBuf),
    /// A variable of the environment.
    Environment,
    /// The file that `<NAME>_FILE` names.
    SecretFile(PathBuf),
    /// A flag of the program.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::ConfigFile(path) => write!(f, "configuration file {}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::SecretFile(path) => write!(f, "secret file {}", path.display()),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A text that was given, held as a secret until it is known not to be one.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) text: Secret,
    pub(crate) origin: Origin,
}

/// Everything that was given, by the name of the setting.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) given: BTreeMap<&'static str, Given>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Warning>,
    /// Names that are given and known, but that no part of this version acts on.
    pub(crate) without_effect: BTreeSet<String>,
}

/// Gathers the texts of all settings, strongest source first.
pub(crate) fn collect(sources: &Sources<'_>, table: &[&'static dyn Entry]) -> Collected {
    let mut collected = Collected::default();
    let file = read_config_file(sources, &mut collected);
    let flags = read_flags(sources, &mut collected);
    for entry in table {
        let found = flags
            .get(entry.name())
            .map(|text| Given {
                text: Secret::new(text.as_str()),
                origin: Origin::Flag,
            })
            .or_else(|| from_environment(sources.env, *entry, &mut collected.problems))
            .or_else(|| {
                file.as_ref()
                    .and_then(|file| file.find(*entry, &mut collected.problems))
            });
        if let Some(given) = found {
            collected.given.insert(entry.name(), given);
        }
    }
    judge_names(sources.env, file.as_ref(), &mut collected);
    collected
}

fn from_environment(
    env: &dyn Env,
    entry: &dyn Entry,
    problems: &mut Vec<Problem>,
) -> Option<Given> {
    let variable = entry.variable();
    let value = env.get(&variable);
    // An empty `_FILE` is how compose files leave it out.
    let file = if entry.is_secret() {
        env.get(&format!("{variable}_FILE"))
            .filter(|path| !path.is_empty())
    } else {
        None
    };
    choose(entry, value, file, Origin::Environment, problems)
}

/// A value and a file for the same secret from one source are refused: which of the two is meant cannot be known.
fn choose(
    entry: &dyn Entry,
    value: Option<String>,
    file: Option<String>,
    origin: Origin,
    problems: &mut Vec<Problem>,
) -> Option<Given> {
    match (value, file) {
        (Some(value), Some(_)) if !value.is_empty() => {
            problems.push(Problem::GivenTwice {
                variable: entry.variable(),
            });
            None
        }
        (_, Some(path)) => read_secret_file(entry, PathBuf::from(path), problems),
        (Some(value), None) => Some(Given {
            text: Secret::new(value),
            origin,
        }),
        (None, None) => None,
    }
}

fn read_secret_file(
    entry: &dyn Entry,
    path: PathBuf,
    problems: &mut Vec<Problem>,
) -> Option<Given> {
    match read_small_file(&path) {
        Ok(text) => {
            // Editors and `kubectl create secret` end a file with a line break that is no part of the secret.
            let secret = Secret::new(text.trim_end_matches(['\n', '\r']));
            if secret.is_empty() {
                problems.push(Problem::refused(
                    &format!("{}_FILE", entry.variable()),
                    "the file is empty",
                ));
                return None;
            }
            Some(Given {
                text: secret,
                origin: Origin::SecretFile(path),
            })
        }
        Err(source) => {
            problems.push(Problem::SecretFile {
                variable: entry.variable(),
                path,
                source,
            });
            None
        }
    }
}

fn read_small_file(path: &Path) -> std::io::Result<String> {
    // A device or a pipe has no length to judge by and may never end.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(std::io::Error::other("it is not a file of at most 1 MiB"));
    }
    fs::read_to_string(path)
}

fn read_flags(sources: &Sources<'_>, collected: &mut Collected) -> BTreeMap<&'static str, String> {
    let mut flags = BTreeMap::new();
    for (flag, value) in &sources.flags {
        let upper = flag
            .trim_start_matches('-')
            .replace('-', "_")
            .to_ascii_uppercase();
        match names::find(upper.strip_prefix(PREFIX).unwrap_or(&upper)) {
            Some(entry) => {
                flags.insert(entry.name(), value.clone());
            }
            None => collected.problems.push(Problem::UnknownFlag {
                flag: flag.trim_start_matches('-').to_owned(),
            }),
        }
    }
    flags
}

/// The configuration file, read to texts.
struct ConfigFile {
    path: PathBuf,
    texts: BTreeMap<String, String>,
}

impl ConfigFile {
    fn find(&self, entry: &dyn Entry, problems: &mut Vec<Problem>) -> Option<Given> {
        let key = entry.key();
        let value = self.texts.get(&key).cloned();
        let file = if entry.is_secret() {
            self.texts.get(&format!("{key}_file")).cloned()
        } else {
            None
        };
        choose(
            entry,
            value,
            file,
            Origin::ConfigFile(self.path.clone()),
            problems,
        )
    }
}

fn read_config_file(sources: &Sources<'_>, collected: &mut Collected) -> Option<ConfigFile> {
    let named = || {
        sources
            .env
            .get(CONFIG_VARIABLE)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let path = sources.config.clone().or_else(named)?;
    let text = match read_small_file(&path) {
        Ok(text) => text,
        Err(source) => {
            collected
                .problems
                .push(Problem::ConfigFile { path, source });
            return None;
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => Some(ConfigFile {
            texts: texts_of(table, &path, &mut collected.problems),
            path,
        }),
        Err(error) => {
            let line = error.span().map_or(1, |span| {
                text[..span.start.min(text.len())].matches('\n').count() + 1
            });
            // Only the message: the whole error quotes the line, which may hold a secret.
            collected.problems.push(Problem::ConfigSyntax {
                path,
                line,
                message: error.message().to_owned(),
            });
            None
        }
    }
}

fn texts_of(
    table: toml::Table,
    path: &Path,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (key, value) in table {
        match text_of(value) {
            Ok(text) => {
                texts.insert(key, text);
            }
            Err(found) => problems.push(Problem::ConfigType {
                path: path.to_owned(),
                key,
                found,
            }),
        }
    }
    texts
}

/// Writes a TOML value the way it would stand in the environment.
fn text_of(value: toml::Value) -> Result<String, &'static str> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Float(_) => Err("a number with a fraction"),
        toml::Value::Datetime(_) => Err("a date"),
        toml::Value::Table(_) => Err("a table"),
        toml::Value::Array(items) => {
            let items: Vec<String> = items
                .into_iter()
                .map(|item| match item {
                    // A comma would split the item in two once the list is a text.
                    toml::Value::String(text) if !text.contains(',') => Ok(text),
                    toml::Value::String(_) => Err("a list with a comma in an item"),
                    _ => Err("a list of something else than texts"),
                })
                .collect::<Result<_, _>>()?;
            Ok(items.join(","))
        }
    }
}

/// Sorts names that no setting of this program bears into the merely unused and the unknown.
fn judge_names(env: &dyn Env, file: Option<&ConfigFile>, collected: &mut Collected) {
    let mut found: Vec<(String, String, String)> = env
        .names()
        .into_iter()
        .filter(|name| name != CONFIG_VARIABLE)
        .filter_map(|name| {
            Some((
                name.strip_prefix(PREFIX)?.to_owned(),
                name,
                "the environment".to_owned(),
            ))
        })
        .collect();
    if let Some(file) = file {
        let place = format!("the configuration file {}", file.path.display());
        found.extend(
            file.texts
                .keys()
                .map(|key| (key.to_ascii_uppercase(), key.clone(), place.clone())),
        );
    }
    found.sort();
    for (bare, name, place) in found {
        match names::judge(&bare) {
            names::Judgement::Setting => {}
            names::Judgement::Reserved => {
                collected.without_effect.insert(format!("{PREFIX}{bare}"));
            }
            names::Judgement::Unknown => {
                let suggestion = names::nearest(&bare).map(|known| format!("{PREFIX}{known}"));
                collected.warnings.push(Warning::UnknownName {
                    name,
                    place,
                    suggestion,
                });
            }
        }
    }
}
