//! The store: what was asked for, on disk. One transaction a commit, so that a crash leaves the state
//! before it or the state after it. The only writer of files in this room.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};

mod upgrade;

use super::crash::crash_point;
use crate::model::{CopyOnWrite, Desired, Indices, Network, Predefined, Shelf};

/// Version of everything that is written here; a store of a newer one is refused.
const SCHEMA: u32 = 3;
/// File name in the state directory.
const FILE: &str = "bascule.redb";

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const NETWORKS: TableDefinition<&str, &[u8]> = TableDefinition::new("networks");
const CONFIGS: TableDefinition<&str, &[u8]> = TableDefinition::new("config_networks");
const CONTAINERS: TableDefinition<&str, &[u8]> = TableDefinition::new("containers");
const DENIALS: TableDefinition<&str, &[u8]> = TableDefinition::new("denials");
const POOLS: TableDefinition<&str, &[u8]> = TableDefinition::new("pools");
const SYSCTLS: TableDefinition<&str, &[u8]> = TableDefinition::new("sysctls");

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refuses.
    #[error("cannot {action} the store {}: {source}{}", path.display(), remedy(source))]
    Database {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// Something in it does not read.
    #[error("the store {} is damaged: {what}: {source}{ANEW}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What.
        what: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// It was written by a newer version.
    #[error(
        "the store {} has schema {found}; this version reads up to {SCHEMA}: start the version that wrote it, or a \
         later one", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
}

/// What to do about a store that does not read.
const ANEW: &str = "; put a copy of it back, or remove it and all that the agent made by \
                    `bascule agent cleanup --purge`, and begin anew";

/// Returns what to do about a refusal of the database.
fn remedy(source: &redb::Error) -> &'static str {
    use std::io::ErrorKind;
    match source {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => ANEW,
        redb::Error::Io(error) => match error.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => ANEW,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room on its disk",
            ErrorKind::ReadOnlyFilesystem => "; give --state-dir a place that can be written",
            _ => "",
        },
        redb::Error::DatabaseAlreadyOpen => "; another process has it open",
        _ => "",
    }
}

impl StoreError {
    /// Returns whether the file could not be read or written, which may pass.
    fn is_io(&self) -> bool {
        let Self::Database { source, .. } = self else { return false };
        matches!(**source, redb::Error::Io(_) | redb::Error::PreviousIo)
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    database: Mutex<Option<Database>>,
    path: PathBuf,
}

/// What a store held when it was opened.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was asked for; none in a new store.
    pub desired: Option<Desired>,
    /// Boot of the machine that it was last written in.
    pub boot_id: Option<String>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// Opens the store of a state directory, or makes it.
    pub fn open(directory: &Path) -> Result<Self> {
        let store = Self { database: Mutex::new(None), path: directory.join(FILE) };
        store.write(|transaction| {
            for table in [META, NETWORKS, CONFIGS, CONTAINERS, POOLS, DENIALS, SYSCTLS] {
                transaction.open_table(table)?;
            }
            Ok(())
        })?;
        match store.get::<u32>(META, "schema")? {
            None => store.put(META, "schema", &SCHEMA)?,
            Some(found) if found > SCHEMA => {
                return Err(StoreError::Newer { path: store.path, found });
            }
            Some(found) if found < SCHEMA => store.put(META, "schema", &SCHEMA)?,
            Some(_) => {}
        }
        Ok(store)
    }

    /// Opens the store that a state directory has, to read what is in it: nothing is written.
    pub fn open_existing(directory: &Path) -> Result<Self> {
        let store = Self { database: Mutex::new(None), path: directory.join(FILE) };
        match store.get::<u32>(META, "schema")? {
            Some(found) if found > SCHEMA => Err(StoreError::Newer { path: store.path, found }),
            _ => Ok(store),
        }
    }

    /// Reads everything.
    pub fn load(&self) -> Result<Loaded> {
        let boot_id = self.get(META, "boot_id")?;
        let indices: Option<Indices> = self.get(META, "indices")?.map(upgrade::indices);
        let predefined: Option<Predefined> = self.get(META, "predefined")?;
        let (Some(indices), Some(predefined)) = (indices, predefined) else {
            return Ok(Loaded { desired: None, boot_id });
        };
        let networks = self.all::<upgrade::Stored>(NETWORKS)?.into_iter().map(Network::from);
        let configs = self.all(CONFIGS)?;
        let containers = self.all(CONTAINERS)?;
        let denials = self.all(DENIALS)?;
        let pools = self.all(POOLS)?;
        let mut desired = Desired {
            networks: networks.map(|n| (n.id, n)).collect(),
            configs: configs.into_iter().map(|c: crate::model::ConfigNetwork| (c.id, c)).collect(),
            containers: containers
                .into_iter()
                .map(|c: crate::model::Container| (c.id, c))
                .collect(),
            pools: pools.into_iter().map(|p: crate::model::GivenPool| (p.id.clone(), p)).collect(),
            denials: denials.into_iter().map(|d: crate::model::Denial| (d.prefix, d)).collect(),
            indices: CopyOnWrite::new(indices),
            predefined,
            docker: self.get(META, "docker")?.unwrap_or_default(),
        };
        super::links::moved(&mut desired);
        Ok(Loaded { desired: Some(desired), boot_id })
    }

    /// Writes what differs between two states, all or nothing; without a first one, everything.
    pub fn commit(&self, before: Option<&Desired>, after: &Desired) -> Result<()> {
        crash_point();
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            if before.is_none_or(|b| b.indices != after.indices) {
                meta.insert("indices", encode(&*after.indices).as_slice())?;
            }
            if before.is_none_or(|b| b.predefined != after.predefined) {
                meta.insert("predefined", encode(&after.predefined).as_slice())?;
            }
            if before.is_none_or(|b| b.docker != after.docker) {
                meta.insert("docker", encode(&after.docker).as_slice())?;
            }
            let none = Shelf::new();
            let was = before.map_or(&none, |b| &b.networks);
            put_differences(&mut transaction.open_table(NETWORKS)?, was, &after.networks)?;
            let none = Shelf::new();
            let was = before.map_or(&none, |b| &b.configs);
            put_differences(&mut transaction.open_table(CONFIGS)?, was, &after.configs)?;
            let none = Shelf::new();
            let was = before.map_or(&none, |b| &b.containers);
            put_differences(&mut transaction.open_table(CONTAINERS)?, was, &after.containers)?;
            let none = Shelf::new();
            let was = before.map_or(&none, |b| &b.pools);
            put_differences(&mut transaction.open_table(POOLS)?, was, &after.pools)?;
            let none = Default::default();
            let mut table = transaction.open_table(DENIALS)?;
            let was = before.map_or(&none, |b| &b.denials);
            for prefix in was.keys().filter(|prefix| !after.denials.contains_key(prefix)) {
                table.remove(prefix.to_string().as_str())?;
            }
            for (prefix, denial) in after.denials.iter().filter(|(p, d)| was.get(p) != Some(d)) {
                table.insert(prefix.to_string().as_str(), encode(denial).as_slice())?;
            }
            Ok(())
        })?;
        crash_point();
        Ok(())
    }

    /// Notes the boot of the machine.
    pub fn set_boot_id(&self, boot_id: &str) -> Result<()> {
        self.put(META, "boot_id", &boot_id)
    }

    /// Reads the journal of changed sysctls.
    pub fn sysctls<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.all(SYSCTLS)
    }

    /// Writes an entry of that journal, before or after the change.
    pub fn put_sysctl<T: Serialize>(&self, key: &str, entry: &T) -> Result<()> {
        self.put(SYSCTLS, key, entry)
    }

    /// Removes an entry of that journal: the sysctl was given back.
    pub fn remove_sysctl(&self, key: &str) -> Result<()> {
        self.write(|transaction| {
            transaction.open_table(SYSCTLS)?.remove(key)?;
            Ok(())
        })
    }

    fn failed<E: Into<redb::Error>>(&self, action: &'static str) -> impl Fn(E) -> StoreError {
        move |source| StoreError::Database {
            action,
            path: self.path.clone(),
            source: Box::new(source.into()),
        }
    }

    fn write(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> std::result::Result<(), redb::Error>,
    ) -> Result<()> {
        self.with(|database| {
            let transaction = database.begin_write().map_err(self.failed("write"))?;
            work(&transaction).map_err(self.failed("write"))?;
            transaction.commit().map_err(self.failed("write"))
        })
    }

    /// Works on the database. After an I/O error it is closed, and opened anew the next time: it refuses
    /// everything once one has happened, even when a full disk has room again.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let mut held = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match held.take() {
            Some(database) => database,
            None => Database::create(&self.path).map_err(self.failed("open"))?,
        };
        let result = work(&database);
        if !result.as_ref().is_err_and(StoreError::is_io) {
            *held = Some(database);
        }
        result
    }

    fn put<T: Serialize>(
        &self,
        table: TableDefinition<&str, &[u8]>,
        key: &str,
        value: &T,
    ) -> Result<()> {
        crash_point();
        self.write(|transaction| {
            transaction.open_table(table)?.insert(key, encode(value).as_slice())?;
            Ok(())
        })
    }

    fn get<T: DeserializeOwned>(
        &self,
        table: TableDefinition<&str, &[u8]>,
        key: &str,
    ) -> Result<Option<T>> {
        let transaction = self.with(|d| d.begin_read().map_err(self.failed("read")))?;
        let table = transaction.open_table(table).map_err(self.failed("read"))?;
        let Some(found) = table.get(key).map_err(self.failed("read"))? else { return Ok(None) };
        self.decode(key, found.value()).map(Some)
    }

    fn all<T: DeserializeOwned>(&self, table: TableDefinition<&str, &[u8]>) -> Result<Vec<T>> {
        let transaction = self.with(|d| d.begin_read().map_err(self.failed("read")))?;
        let table = transaction.open_table(table).map_err(self.failed("read"))?;
        let mut all = Vec::new();
        for row in table.iter().map_err(self.failed("read"))? {
            let (key, value) = row.map_err(self.failed("read"))?;
            all.push(self.decode(key.value(), value.value())?);
        }
        Ok(all)
    }

    fn decode<T: DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|source| StoreError::Damaged {
            path: self.path.clone(),
            what: what.to_owned(),
            source,
        })
    }
}

/// Writes what is different between two maps.
fn put_differences<K: Ord + ToString, V: PartialEq + Serialize>(
    table: &mut Table<&str, &[u8]>,
    was: &Shelf<K, V>,
    is: &Shelf<K, V>,
) -> std::result::Result<(), redb::Error> {
    for key in was.differences(is) {
        let name = key.to_string();
        match is.get(key) {
            Some(value) => drop(table.insert(name.as_str(), encode(value).as_slice())?),
            None => drop(table.remove(name.as_str())?),
        }
    }
    Ok(())
}

/// Encodes what always can be: types of ours with text for keys.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Returns the file of the store, for those who remove it.
pub fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        model::NetworkId,
        state::{Change, ContainerSpec, DefaultNetwork, DefaultPlace, Facts, change},
    };

    fn container(name: &str, link: Option<&str>) -> Change {
        let publish = link.map(|_| "127.0.0.1:8080-8081:80-81/udp".parse().unwrap());
        let spec = ContainerSpec {
            name: Some(name.parse().unwrap()),
            publish: publish.into_iter().collect(),
            expose: vec!["80".parse().unwrap()],
            links: link.map(|link| link.parse().unwrap()).into_iter().collect(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            command: vec!["sleep".into()],
            ..ContainerSpec::default()
        };
        Change::CreateContainer(Box::new(spec))
    }

    #[test]
    fn what_was_committed_is_loaded_and_what_was_removed_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut facts = Facts::sample();
        let predefined = Predefined {
            host: NetworkId::new([1; 32]),
            none: NetworkId::new([2; 32]),
            created: Timestamp::UNIX_EPOCH,
        };
        let mut desired = Desired::new(predefined, 7);
        let store = Store::open(directory.path()).unwrap();
        assert!(store.load().unwrap().desired.is_none());
        store.commit(None, &desired).unwrap();
        for change in [
            Change::DefaultNetwork(DefaultNetwork::at(DefaultPlace::Automatic)),
            container("db", None),
            Change::Start("db".into()),
            container("c1", Some("db")),
            container("c2", Some("db")),
            Change::Start("c1".into()),
            Change::RemoveContainer { container: "c2".into(), force: false },
            Change::Deny {
                prefixes: vec!["198.51.100.0/24".into(), "2001:db8::/32".into()],
                comment: "noise".into(),
                force: false,
            },
            Change::Undeny(vec!["2001:db8::/32".into()]),
        ] {
            let (next, _) = change::apply(&desired, &change, &mut facts).unwrap();
            store.commit(Some(&desired), &next).unwrap();
            desired = next;
        }
        store.set_boot_id("boot").unwrap();
        drop(store);
        let loaded = Store::open(directory.path()).unwrap().load().unwrap();
        assert_eq!(loaded.desired, Some(desired));
        assert_eq!(loaded.boot_id.as_deref(), Some("boot"));
    }

    #[test]
    fn a_store_of_a_newer_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Store::open(directory.path()).unwrap().put(META, "schema", &(SCHEMA + 1)).unwrap();
        assert!(matches!(Store::open(directory.path()), Err(StoreError::Newer { .. })));
    }
}
