//! Where a database is.

use super::line::{Halves, halves};
use crate::client::{Authorities, Resolver};
use postgres::{
    Config, NoTls,
    config::{Host, SslMode},
};
use std::{error::Error, fmt, net::IpAddr, str::FromStr};
use tokio_postgres_rustls::MakeRustlsConnect;

/// PostgreSQL's own port.
const DEFAULT_PORT: u16 = 5432;

/// The address of a database, as libpq's users write it: `postgres://USER[:PASSWORD]@HOST[:PORT]/NAME[?sslmode=...]`. It is
/// shown without its password.
///
/// Over the network there is TLS, and the server's certificate is verified, unless `sslmode=disable` says otherwise.
#[derive(Clone)]
pub struct DatabaseAddress {
    /// As it was written.
    text: String,
    config: Config,
    authorities: Option<Authorities>,
}

impl DatabaseAddress {
    /// What TLS trusts, where that is not what the system trusts.
    pub fn trusting(mut self, authorities: Option<Authorities>) -> DatabaseAddress {
        self.authorities = authorities;
        self
    }

    /// The password, where the address has none of its own.
    pub fn or_password(mut self, password: Option<&str>) -> DatabaseAddress {
        if let (None, Some(password)) = (self.config.get_password(), password) {
            self.config.password(password);
        }
        self
    }

    pub(super) fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    /// Whether nothing travels over a network.
    fn is_local(&self) -> bool {
        self.config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)))
    }

    pub(super) async fn connect(&self) -> Result<Halves, AddressError> {
        let mut addresses = self.look_up().await?.into_iter();
        loop {
            let mut config = self.config.clone();
            if let Some(address) = addresses.next() {
                config.hostaddr(address);
            }
            match self.connect_to(&mut config).await {
                // another address of the same name may answer
                Err(AddressError::Postgres(_)) if addresses.len() > 0 => {}
                connected => return connected,
            }
        }
    }

    async fn connect_to(&self, config: &mut Config) -> Result<Halves, AddressError> {
        if self.is_local() || self.config.get_ssl_mode() == SslMode::Disable {
            return Ok(halves(config, NoTls).await?);
        }
        crate::client::install_provider();
        let tls = crate::client::tls_of(self.authorities.as_ref()).map_err(Box::new)?;
        // one that may do without is one that an attacker makes do without
        config.ssl_mode(SslMode::Require);
        Ok(halves(config, MakeRustlsConnect::new(tls)).await?)
    }

    /// The addresses of the one host that is named; none where there is nothing to look up. (A static glibc cannot call its own
    /// getaddrinfo; several hosts are left to it.)
    async fn look_up(&self) -> Result<Vec<IpAddr>, AddressError> {
        match self.config.get_hosts() {
            [Host::Tcp(name)]
                if name.parse::<IpAddr>().is_err() && self.config.get_hostaddrs().is_empty() =>
            {
                Resolver::default().addresses(name).await.map_err(AddressError::Name)
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    /// The server does not answer, or refuses.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// Its name has no address.
    #[error("its name has no address")]
    Name(#[source] Box<dyn Error + Send + Sync>),
    /// There is nothing to trust.
    #[error(transparent)]
    Tls(#[from] Box<crate::client::ClientError>),
}

impl FromStr for DatabaseAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<DatabaseAddress, String> {
        // what is wrong with it may stand beside its password
        let wrong = || "it is not postgres://USER@HOST[:PORT]/NAME".to_owned();
        let known = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let config: Config = text.parse().ok().filter(|_| known).ok_or_else(wrong)?;
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(wrong());
        }
        Ok(DatabaseAddress { text: text.to_owned(), config, authorities: None })
    }
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate().map(|(index, host)| {
            // one port may be that of all hosts
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
            match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        });
        let hosts: Vec<String> = hosts.collect();
        write!(f, "postgres://{}/{}", hosts.join(","), self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for DatabaseAddress {
    fn eq(&self, other: &DatabaseAddress) -> bool {
        self.text == other.text
    }
}
