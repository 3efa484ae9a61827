use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use jsonwebtoken::crypto;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::config::JwksAlgorithm;

const SECRET: &str = "0123456789abcdef0123456789abcdef-a-test";
const OTHER: &str = "fedcba9876543210fedcba9876543210-a-test";
/// An Ed25519 key made for these tests: PKCS#8 head, seed; and its public half.
const ED_HEAD: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const ED_SEED: &str = "69fe367639839b9cccac1bd5a703aa4cd4327f8f05925a4908ad09e12b3fd9f0";
const ED_PUBLIC: &str = "0mVmOLBTCwU1R62__zKx6gEMs9cNVnyJWHYB6neWvfE";

fn config(mode: AuthMode) -> AuthConfig {
    AuthConfig { mode, issuer: None, audience: None, query_token: true, anonymous: None }
}

fn shared(secret: &str) -> AuthConfig {
    config(AuthMode::Secret { current: SecretString::from(secret), previous: None })
}

fn authenticator() -> Authenticator {
    Authenticator::open(&shared(SECRET)).expect("no file is involved")
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let encode = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(|place| letter(bits >> (18 - 6 * place))).collect::<String>()
    };
    bytes.chunks(3).map(encode).collect()
}

/// A token with any header and claims, rightly signed with HS256.
fn signed(header: &str, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256).expect("signs");
    format!("{message}.{signature}")
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

fn claims(claims: Value) -> String {
    signed(HS256, &claims.to_string(), SECRET)
}

#[test]
fn what_is_minted_is_verified() {
    let auth = authenticator();
    let scopes = ["metrics".to_owned(), "admin".to_owned()];
    let token = auth.mint("ada", Plan::Pro, &scopes, Duration::from_secs(60)).expect("minted");
    let ada = auth.verify(&token).expect("verified");
    assert_eq!((ada.user(), ada.plan()), ("ada", Plan::Pro));
    assert!(ada.has_scope("metrics") && ada.has_scope("admin") && !ada.has_scope("metrics admin"));
    let left = ada.expires_at().expect("always").since(Timestamp::now());
    assert!(left > Duration::from_secs(55) && left <= Duration::from_secs(60), "{left:?}");
    for nobody in ["", " ", "a\nb", &"x".repeat(201)] {
        assert!(matches!(auth.mint(nobody, Plan::Free, &[], Duration::from_secs(60)), Err(MintError::User)), "{nobody:?}");
    }
}

#[test]
fn the_forms_of_claims_people_send() {
    let auth = authenticator();
    let exp = now() + 60;
    let user = |value: Value| auth.verify(&claims(value)).expect("good").user().to_owned();
    assert_eq!(user(json!({"id": "seed-user", "exp": exp})), "seed-user");
    assert_eq!(user(json!({"sub": "ada", "id": "other", "exp": exp, "aud": "anything", "iss": "anyone"})), "ada");
    assert_eq!(user(json!({"sub": "ada", "exp": now() - 3})), "ada", "clocks differ by a few seconds");
    assert_eq!(user(json!({"sub": "ada", "exp": exp, "nbf": now() - 10, "role": {"nested": [1, null]}})), "ada");
    let plan = |value: Value| auth.verify(&claims(json!({"sub": "a", "exp": exp, "plan": value}))).expect("good").plan();
    assert_eq!((plan(json!("enterprise")), plan(json!("gold")), plan(Value::Null)), (Plan::Enterprise, Plan::Free, Plan::Free));
    for scope in [json!("a b"), json!(["a", "b"])] {
        let who = auth.verify(&claims(json!({"sub": "a", "exp": exp, "scope": scope}))).expect("good");
        assert!(who.has_scope("a") && who.has_scope("b"));
    }
    let token = signed(
        r#"{"alg":"HS256","typ":"at+jwt","jku":"http://evil.example","x5u":"http://evil.example"}"#,
        &json!({"sub":"a","exp":exp}).to_string(),
        SECRET,
    );
    assert!(auth.verify(&token).is_ok(), "headers that point elsewhere are ignored");
}

#[test]
fn forged_and_abused_tokens_are_all_refused_alike() {
    let auth = authenticator();
    let exp = now() + 60;
    let good = json!({"sub": "ada", "exp": exp}).to_string();
    let header = |header: &str| signed(header, &good, SECRET);
    let body = |body: &str| signed(HS256, body, SECRET);
    let unsigned = |alg: &str| format!("{}.{}.", base64url(format!(r#"{{"alg":"{alg}"}}"#).as_bytes()), base64url(good.as_bytes()));
    let valid = body(&good);
    assert!(auth.verify(&valid).is_ok());
    let (head, signature) = valid.rsplit_once('.').expect("three parts");
    let mut changed = valid.clone().into_bytes();
    let middle = head.find('.').expect("two parts") + 5;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };

    let abuses: Vec<(&str, String)> = vec![
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("alg nOnE", unsigned("nOnE")),
        ("alg missing", header(r#"{"typ":"JWT"}"#)),
        ("alg none, signature kept", header(r#"{"alg":"none"}"#)),
        ("alg HS384", header(r#"{"alg":"HS384"}"#)),
        ("alg RS256, signed with a public key", header(r#"{"alg":"RS256"}"#)),
        ("alg twice", header(r#"{"alg":"none","alg":"HS256"}"#)),
        ("alg a list", header(r#"{"alg":["HS256"]}"#)),
        ("signed with nothing", signed(HS256, &good, "")),
        ("another tenant's key", signed(HS256, &good, OTHER)),
        ("signature cut off", format!("{head}.")),
        ("signature shortened", format!("{head}.{}", &signature[..20])),
        ("signature of padding", format!("{head}.{signature}=")),
        ("payload changed", String::from_utf8(changed).expect("ascii")),
        ("a fourth part", format!("{valid}.x")),
        ("trailing data", format!("{valid} ")),
        ("leading data", format!(" {valid}")),
        ("a line break", format!("{valid}\n")),
        ("two parts", head.to_owned()),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("a bearer scheme", format!("Bearer {valid}")),
        (
            "own key in the header",
            header(r#"{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"0mVmOLBTCwU1R62__zKx6gEMs9cNVnyJWHYB6neWvfE"}}"#),
        ),
        ("critical header", header(r#"{"alg":"HS256","crit":["exp"]}"#)),
        ("another type of token", header(r#"{"alg":"HS256","typ":"logout+jwt"}"#)),
        ("header no object", header("[]")),
        ("header no JSON", header("alg")),
        ("no exp", body(r#"{"sub":"ada"}"#)),
        ("exp null", body(r#"{"sub":"ada","exp":null}"#)),
        ("exp text", body(&format!(r#"{{"sub":"ada","exp":"{exp}"}}"#))),
        ("exp negative", body(r#"{"sub":"ada","exp":-1}"#)),
        ("exp huge", body(r#"{"sub":"ada","exp":1e300}"#)),
        ("exp past the year 9999", body(r#"{"sub":"ada","exp":253402300800}"#)),
        ("exp the largest number", body(r#"{"sub":"ada","exp":18446744073709551615}"#)),
        ("exp not a number", body(r#"{"sub":"ada","exp":NaN}"#)),
        ("exp zero", body(r#"{"sub":"ada","exp":0}"#)),
        ("exp in milliseconds", body(&format!(r#"{{"sub":"ada","exp":{exp}000000}}"#))),
        ("exp long gone", body(&json!({"sub": "ada", "exp": now() - 60}).to_string())),
        ("exp just gone", body(&json!({"sub": "ada", "exp": now() - 7}).to_string())),
        ("exp twice", body(&format!(r#"{{"sub":"ada","exp":1,"exp":{exp}}}"#))),
        ("not yet valid", body(&json!({"sub": "ada", "exp": exp, "nbf": now() + 30}).to_string())),
        ("nbf text", body(&json!({"sub": "ada", "exp": exp, "nbf": "tomorrow"}).to_string())),
        ("sub twice", body(&format!(r#"{{"sub":"ada","sub":"admin","exp":{exp}}}"#))),
        ("nobody", body(&json!({"exp": exp}).to_string())),
        ("sub empty", body(&json!({"sub": "", "exp": exp}).to_string())),
        ("sub blank", body(&json!({"sub": "  ", "exp": exp}).to_string())),
        ("sub empty beside an id", body(&json!({"sub": "", "id": "ada", "exp": exp}).to_string())),
        ("sub a number", body(&json!({"sub": 1, "exp": exp}).to_string())),
        ("id an object", body(&json!({"id": {"$ne": null}, "exp": exp}).to_string())),
        ("sub with a line break", body(&json!({"sub": "ada\r\nadmin", "exp": exp}).to_string())),
        ("sub with a zero byte", body(&json!({"sub": "ada\u{0}", "exp": exp}).to_string())),
        ("sub too long", body(&json!({"sub": "a".repeat(201), "exp": exp}).to_string())),
        ("scope a number", body(&json!({"sub": "ada", "exp": exp, "scope": 7}).to_string())),
        ("plan a list", body(&json!({"sub": "ada", "exp": exp, "plan": ["pro"]}).to_string())),
        ("claims a list", body("[]")),
        ("claims with trailing data", body(&format!("{good}{{}}"))),
        ("claims no JSON", body("sub=ada")),
        ("a megabyte", body(&json!({"sub": "ada", "exp": exp, "fill": "x".repeat(1 << 20)}).to_string())),
        ("nine kilobytes", body(&json!({"sub": "ada", "exp": exp, "fill": "x".repeat(9 * 1024)}).to_string())),
        ("not ASCII", "ä.ö.ü".to_owned()),
    ];
    assert!(abuses.len() >= 30);
    for (what, token) in abuses {
        let refused = auth.verify(&token).map(|who| who.user().to_owned());
        assert_eq!(refused, Err(InvalidToken), "{what}");
        assert_eq!(InvalidToken.to_string(), "Invalid or expired token");
    }
}

#[test]
fn issuer_and_audience_are_checked_where_configured() {
    let mut config = shared(SECRET);
    config.issuer = Some("https://id.example".to_owned());
    config.audience = Some("agent-hub".to_owned());
    let auth = Authenticator::open(&config).expect("open");
    let exp = now() + 60;
    let verify = |iss: Value, aud: Value| auth.verify(&claims(json!({"sub": "ada", "exp": exp, "iss": iss, "aud": aud}))).is_ok();
    assert!(verify(json!("https://id.example"), json!("agent-hub")));
    assert!(verify(json!("https://id.example"), json!(["other", "agent-hub"])));
    for (iss, aud) in [
        (json!("https://evil.example"), json!("agent-hub")),
        (json!("https://id.example"), json!("other")),
        (json!("https://id.example"), json!([])),
        (json!("https://id.example"), json!({})),
        (json!("https://id.example"), Value::Null),
        (Value::Null, json!("agent-hub")),
        (json!("https://id.example/"), json!("agent-hub")),
    ] {
        assert!(!verify(iss.clone(), aud.clone()), "{iss} {aud}");
    }
    assert!(auth.verify(&claims(json!({"sub": "ada", "exp": exp}))).is_err());
    let own = auth.mint("ada", Plan::Free, &[], Duration::from_secs(60)).expect("minted");
    assert!(auth.verify(&own).is_ok(), "what the hub mints it accepts");
}

#[test]
fn a_rotation_has_two_secrets_and_ends() {
    let mode = AuthMode::Secret { current: SecretString::from(OTHER), previous: Some(SecretString::from(SECRET)) };
    let rotating = Authenticator::open(&config(mode)).expect("open");
    let rotated = Authenticator::open(&shared(OTHER)).expect("open");
    let mint = |auth: &Authenticator| auth.mint("ada", Plan::Free, &[], Duration::from_secs(60)).expect("minted");
    let old = mint(&authenticator());
    assert!(rotating.verify(&old).is_ok() && rotating.verify(&mint(&rotating)).is_ok());
    assert!(rotated.verify(&mint(&rotating)).is_ok(), "minted with the current one");
    assert!(rotated.verify(&old).is_err());
}

#[test]
fn nothing_secret_in_debug_output() {
    let shown = format!("{:?} {:?}", authenticator(), shared(SECRET));
    assert!(!shown.contains(SECRET), "{shown}");
}

fn ed_key() -> EncodingKey {
    let digits: Vec<u32> = ED_SEED.chars().filter_map(|c| c.to_digit(16)).collect();
    let seed = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8);
    EncodingKey::from_ed_der(&ED_HEAD.into_iter().chain(seed).collect::<Vec<_>>())
}

fn ed_token(kid: &str) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, &json!({"sub": "ada", "exp": now() + 60}), &ed_key()).expect("signs")
}

/// An identity provider that says how often it was asked.
async fn provider(set: Value) -> (String, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}/keys", listener.local_addr().expect("bound"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let serve = async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = socket.read(&mut [0; 4096]).await;
            let body = set.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    };
    (url, asked, tokio::spawn(serve))
}

#[tokio::test]
async fn a_key_set_is_fetched_when_needed_and_not_when_teased() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let set = json!({"keys": [
        {"kty": "oct", "kid": "one", "k": "c2VjcmV0"},
        {"kty": "XXX", "kid": "strange"},
        {"kty": "RSA", "kid": "half"},
        "not a key",
        {"kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "x": ED_PUBLIC},
        {"kty": "OKP", "crv": "Ed25519", "kid": "enc", "use": "enc", "x": ED_PUBLIC},
    ]});
    let (url, asked, server) = provider(set).await;
    let auth = Authenticator::open(&config(AuthMode::Jwks { url, algorithm: JwksAlgorithm::EdDsa })).expect("open");
    assert!(auth.verify(&ed_token("one")).is_err(), "no key yet");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "a look-up asks nobody");
    assert_eq!(auth.authenticate(&ed_token("one")).await.expect("fetched").user(), "ada");
    assert_eq!(auth.verify(&ed_token("one")).expect("kept").user(), "ada");
    for kid in ["two", "../../etc/passwd", "", "enc"] {
        assert_eq!(auth.authenticate(&ed_token(kid)).await, Err(InvalidToken), "{kid}");
    }
    let confused = signed(r#"{"alg":"HS256","kid":"one"}"#, &json!({"sub": "ada", "exp": now() + 60}).to_string(), ED_PUBLIC);
    assert_eq!(auth.authenticate(&confused).await, Err(InvalidToken), "a public key is no secret");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "unknown keys do not make the hub ask again");
    assert!(matches!(auth.mint("ada", Plan::Free, &[], Duration::from_secs(60)), Err(MintError::NoSecret)));
    server.abort();
}

#[tokio::test]
async fn a_key_set_is_kept_fresh_beside_the_requests() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": ED_PUBLIC}]});
    let (url, asked, server) = provider(set).await;
    let auth = Arc::new(Authenticator::open(&config(AuthMode::Jwks { url, algorithm: JwksAlgorithm::EdDsa })).expect("open"));
    let stop = CancellationToken::new();
    let (keeper, stopped) = (Arc::clone(&auth), stop.clone());
    let keeper = tokio::spawn(async move { keeper.keep_fresh(stopped).await });
    let fetched = async {
        while auth.verify(&ed_token("one")).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), fetched).await.expect("fetched at start");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "however often it was missed");
    stop.cancel();
    keeper.await.expect("ends when told");
    server.abort();
}
