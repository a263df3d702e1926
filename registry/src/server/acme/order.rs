//! One order, from the account to the certificate (RFC 8555, section 7).

use super::{
    Acme, AcmeError, at,
    home::{Answers, Home},
    http::Http,
    keep::KeptAccount,
};
use crate::{
    client::{ClientError, Resolver, install_provider, tls_of},
    limits,
    server::tls::Certificates,
};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use std::sync::Arc;

/// Asks an authority.
pub(super) struct Orders {
    http: reqwest::Client,
    home: Arc<Home>,
}

impl Orders {
    pub(super) fn new(acme: &Acme, home: Arc<Home>) -> Result<Orders, ClientError> {
        install_provider();
        let proxies = acme.proxies.clone();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_of(acme.authorities.as_ref())?)
            .https_only(true)
            .proxy(reqwest::Proxy::custom(move |url| proxies.of(url)))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .timeout(limits::ACME_REQUEST_TIME)
            .dns_resolver(Arc::new(Resolver::default()))
            .build()
            .map_err(ClientError::Tls)?;
        Ok(Orders { http, home })
    }

    /// A chain and its key, both in PEM form.
    pub(super) async fn obtain(
        &self,
        acme: &Acme,
        certificates: &Certificates,
    ) -> Result<(String, String), AcmeError> {
        let failed = |source| AcmeError::Authority { directory: acme.directory.clone(), source };
        let account = self.account(acme).await?;
        let names: Vec<Identifier> = acme.names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await.map_err(failed)?;
        self.prove(&mut order, acme, certificates).await?;
        let patience = RetryPolicy::new().timeout(limits::ACME_TIME);
        match order.poll_ready(&patience).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(refusal(&mut order, acme, "it does not say why".to_owned()).await),
            Err(Error::Api(problem)) => return Err(refusal(&mut order, acme, problem.to_string()).await),
            Err(error) => return Err(failed(error)),
        }
        let key = order.finalize().await.map_err(failed)?;
        let chain = order.poll_certificate(&patience).await.map_err(failed)?;
        Ok((chain, key))
    }

    /// The account that is kept, or a new one: its owner has agreed to the authority's terms by configuring it.
    async fn account(&self, acme: &Acme) -> Result<Account, AcmeError> {
        let failed = |source| AcmeError::Authority { directory: acme.directory.clone(), source };
        let builder = || Account::builder_with_http(Box::new(Http(self.http.clone())));
        let kept = at(&self.home, Home::account).await?.filter(|kept| kept.directory == acme.directory);
        if let Some(credentials) = kept.and_then(|kept| serde_json::from_value(kept.credentials).ok()) {
            return builder().from_credentials(credentials).await.map_err(failed);
        }
        let contact: Vec<String> = acme.contact.iter().map(|address| format!("mailto:{address}")).collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = acme.external.as_ref().map(|own| ExternalAccountKey::new(own.id.clone(), &own.key));
        let created = builder().create(&wanted, acme.directory.clone(), external.as_ref()).await;
        let (account, credentials) = created.map_err(failed)?;
        let credentials = serde_json::to_value(&credentials).expect("texts are JSON");
        let directory = acme.directory.clone();
        let made = KeptAccount { directory, credentials };
        at(&self.home, move |home| home.keep_account(&made)).await?;
        Ok(account)
    }

    /// Has every challenge answered, by everybody who may be asked, and tells the authority to look.
    async fn prove(
        &self,
        order: &mut Order,
        acme: &Acme,
        certificates: &Certificates,
    ) -> Result<(), AcmeError> {
        let failed = |source| AcmeError::Authority { directory: acme.directory.clone(), source };
        let kind = if acme.http.is_empty() { ChallengeType::TlsAlpn01 } else { ChallengeType::Http01 };
        let mut answers = Answers::default();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            // proven lately, for another order
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let challenge = authorization.challenge(kind.clone());
            let challenge = challenge.ok_or_else(|| AcmeError::NoChallenge { name: name.clone() })?;
            let answer = challenge.key_authorization();
            match kind {
                ChallengeType::Http01 => answers.by_http(&challenge.token, answer.as_str()),
                _ => answers.over_tls(&name, answer.digest().as_ref()),
            }
        }
        answers.answer(certificates)?;
        at(&self.home, move |home| home.keep_answers(&answers)).await?;
        tokio::time::sleep(self.home.spreads()).await;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(kind.clone()) {
                challenge.set_ready().await.map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Why an order came to nothing, in the authority's words: those about one name, or `why`.
async fn refusal(order: &mut Order, acme: &Acme, why: String) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let error = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(error) = error {
            return AcmeError::Unproven { name, why: error.to_string() };
        }
    }
    AcmeError::Unproven { name: acme.names.join(", "), why }
}
