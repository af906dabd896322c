//! Logins of NATS with JWTs: a [`NatsOperator`] signs accounts, and a [`NatsAccount`] signs users.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator whose accounts a server knows.
#[derive(Debug)]
pub struct NatsOperator {
    key: KeyPair,
    system: NatsAccount,
    accounts: Vec<NatsAccount>,
}

/// An account with JetStream.
#[derive(Clone, Debug)]
pub struct NatsAccount {
    name: String,
    key: KeyPair,
}

/// The claims of a user.
#[derive(Clone, Debug, Default)]
pub struct NatsUser {
    /// Subjects in which the user may publish; `None` for all.
    pub publish: Option<Vec<String>>,
    /// Subjects to which the user may subscribe; `None` for all.
    pub subscribe: Option<Vec<String>>,
    /// Number of seconds from now until the login expires, or since it has expired, if negative; `None` for never.
    pub expires_s: Option<i64>,
}

/// The parts of a file of credentials.
#[derive(Clone, Debug)]
pub struct NatsCredentials {
    /// The claims, signed by the account.
    pub jwt: String,
    /// The seed of the user.
    pub seed: String,
}

impl NatsOperator {
    /// An operator without accounts.
    #[must_use]
    pub fn new() -> Self {
        Self {
            key: KeyPair::new_operator(),
            system: NatsAccount::new("system"),
            accounts: Vec::new(),
        }
    }

    /// Adds an account. Servers know it that are started with the [configuration](Self::config) from now on.
    pub fn account(&mut self, name: &str) -> NatsAccount {
        let account = NatsAccount::new(name);
        self.accounts.push(account.clone());
        account
    }

    /// Lines of the configuration of a server that knows the operator and its accounts.
    #[must_use]
    pub fn config(&self) -> String {
        let name = "operator";
        let operator = sign(
            &self.key,
            &self.key,
            name,
            json!({ "type": name, "version": 2 }),
            None,
        );
        let system = self
            .system
            .jwt(&self.key, json!({ "subs": -1, "conn": -1, "data": -1 }));
        let mut preloaded = vec![(self.system.key.public_key(), system)];
        for account in &self.accounts {
            let limits = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
                "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
            });
            preloaded.push((account.key.public_key(), account.jwt(&self.key, limits)));
        }
        let preloaded = preloaded
            .iter()
            .map(|(key, jwt)| format!("  {key}: {jwt}\n"));
        format!(
            "operator: {operator}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}}}\n",
            self.system.key.public_key(),
            preloaded.collect::<String>()
        )
    }
}

impl Default for NatsOperator {
    fn default() -> Self {
        Self::new()
    }
}

impl NatsAccount {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            key: KeyPair::new_account(),
        }
    }

    /// Makes a user.
    #[must_use]
    pub fn user(&self, user: &NatsUser) -> NatsCredentials {
        let key = KeyPair::new_user();
        let allow = |subjects: &Option<Vec<String>>| match subjects {
            Some(subjects) => json!({ "allow": subjects }),
            None => json!({}),
        };
        let claims = json!({
            "pub": allow(&user.publish), "sub": allow(&user.subscribe), "subs": -1, "data": -1, "payload": -1,
            "type": "user", "version": 2,
        });
        NatsCredentials {
            jwt: sign(&self.key, &key, "user", claims, user.expires_s),
            seed: key.seed().expect("a new key has a seed"),
        }
    }

    fn jwt(&self, operator: &KeyPair, limits: Value) -> String {
        let claims = json!({
            "limits": limits, "default_permissions": { "pub": {}, "sub": {} }, "type": "account", "version": 2,
        });
        sign(operator, &self.key, &self.name, claims, None)
    }
}

impl NatsCredentials {
    /// The content of a file, as `nsc` writes it.
    #[must_use]
    pub fn file(&self) -> String {
        let Self { jwt, seed } = self;
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\
             NKEYs are sensitive and should be treated as secrets.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        )
    }
}

/// Signs claims about a key.
fn sign(
    issuer: &KeyPair,
    subject: &KeyPair,
    name: &str,
    claims: Value,
    expires_s: Option<i64>,
) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("a time after 1970").as_secs().cast_signed();
    let mut payload = json!({
        "jti": subject.public_key(), "iat": now, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name,
        "nats": claims,
    });
    if let Some(expires_s) = expires_s {
        payload["exp"] = (now + expires_s).into();
    }
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encoded(&header), encoded(&payload));
    let signature = issuer.sign(signed.as_bytes()).expect("it has a seed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
