//! Whether a credential opens a registry, before it is kept (distribution's `/v2/`, as docker's `login` asks it).

use super::{
    Inner,
    auth::{Action, Scope},
    body,
    credential::Credential,
    error::ClientError,
    transport::{Ask, Payload},
};
use reqwest::{Method, StatusCode, header::HeaderMap};

impl Inner {
    /// Asks `/v2/` with the configured credential of a registry; it is refused unless it opens it.
    /// Answers what is better kept than the credential, where that ends soon and the registry gave something for it.
    pub(super) async fn log_in(&self, registry: &str) -> Result<Option<Credential>, ClientError> {
        let endpoint = self.transport.endpoint(registry, false).await?;
        let mut url = endpoint.base.clone();
        url.set_path("/v2/");
        let refused = |message: String| ClientError::LoginRefused { host: endpoint.host(), message };
        let scope = Scope::new("", Action::Pull);
        let (headers, payload) = (HeaderMap::new(), Payload::None);
        let ask = Ask { method: Method::GET, url: url.clone(), headers, payload, scope: &scope };
        let mut response = match self.transport.send(&endpoint, ask).await {
            Err(ClientError::Denied { message, .. }) => return Err(refused(message)),
            other => other?,
        };
        // a registry that asks nobody may still know who is wrong
        if self.transport.tokens.header(&endpoint.registry, &scope).is_none()
            && let Some(Credential::Basic { username, password }) =
                self.transport.credential(&endpoint.registry, "").await?
        {
            let request = self
                .transport
                .http(endpoint.kind_for(&url), &url)?
                .get(url)
                .basic_auth(username, Some(password));
            let sent = request.send().await;
            response = sent.map_err(|source| ClientError::unanswered(endpoint.host(), source))?;
        }
        match response.status() {
            status if status.is_success() => {
                Ok(self.transport.tokens.refresh(&endpoint.registry).map(Credential::IdentityToken))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let status = response.status();
                match body::status_error("GET", response).await {
                    ClientError::Status { message, .. } if !message.is_empty() => Err(refused(message)),
                    _ => Err(refused(status.to_string())),
                }
            }
            _ => Err(body::status_error("GET", response).await),
        }
    }
}
