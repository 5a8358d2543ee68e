//! What devices upload to Kinesis with: credentials of one role, which for each device are narrowed
//! down to its own streams (`sts:AssumeRole` with a session policy).

use super::{AwsOptions, sdk_config};
use crate::device::Stream;
use crate::id::DeviceId;
use crate::storage::{Result, StorageError, UploadCredentials, UploadGrant};
use aws_config::SdkConfig;
use aws_sdk_kinesisvideo::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_sts::Client;
use aws_sdk_sts::error::{DisplayErrorContext, ProvideErrorMetadata};
use lookback_wire::Timestamp;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// All that a producer asks for that finds its stream made.
const ACTIONS: [&str; 3] =
    ["kinesisvideo:DescribeStream", "kinesisvideo:GetDataEndpoint", "kinesisvideo:PutMedia"];
/// What `sts:AssumeRole` takes as a policy.
const MAX_POLICY_CHARS: usize = 2_048;
/// The longest that any role's sessions may last.
const MAX_LIFE_S: u32 = 43_200;
/// The longest where the service itself has its credentials from a role, as it mostly does, or
/// where the upload role was left as it is made.
const CHAINED_LIFE_S: u32 = 3_600;
/// Grants remembered, about 2 KB each; one that is forgotten is asked for again.
const MAX_REMEMBERED: usize = 20_000;

/// A role's name, taken apart: `arn:PARTITION:iam::ACCOUNT:role/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleArn {
    arn: String,
    partition: String,
    account: String,
}

impl RoleArn {
    pub fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (prefix, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, role) = (parts.next()?, parts.next()?, parts.next()?);
        let is_digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_role = prefix == "arn"
            && partition.starts_with("aws")
            && (service, region) == ("iam", "")
            && is_digits
            && role.strip_prefix("role/").is_some_and(|name| !name.is_empty());
        is_role.then(|| Self {
            arn: arn.to_owned(),
            partition: partition.to_owned(),
            account: account.to_owned(),
        })
    }

    /// A media stream of the role's account, made whenever.
    fn stream(&self, region: &str, name: &str) -> String {
        let Self { partition, account, .. } = self;
        format!("arn:{partition}:kinesisvideo:{region}:{account}:stream/{name}/*")
    }
}

/// What one device was granted.
#[derive(Clone, Debug)]
struct Remembered {
    policy: String,
    life_s: u32,
    /// Two thirds of its life: from then on another one is given out.
    renew_at: Timestamp,
    credentials: UploadCredentials,
}

/// Grants uploads.
#[derive(Debug)]
pub struct Uploads {
    client: Client,
    region: String,
    endpoint: String,
    role: Option<RoleArn>,
    /// What of a life that was asked for the role has been found to give.
    longest_s: AtomicU32,
    remembered: Mutex<HashMap<DeviceId, Remembered>>,
}

impl Uploads {
    /// Asks for nothing yet.
    pub async fn new(options: &AwsOptions) -> Result<Self> {
        Self::with(options, &sdk_config(options).await).await
    }

    async fn with(options: &AwsOptions, shared: &SdkConfig) -> Result<Self> {
        let region = shared.region().map(|region| region.as_ref().to_owned()).ok_or_else(|| {
            StorageError::Unavailable("aws.region is not set, here or in the environment".into())
        })?;
        let mut config = aws_sdk_sts::config::Builder::from(shared);
        if let Some(url) = &options.sts_endpoint_url {
            config = config.endpoint_url(url);
        }
        Ok(Self {
            client: Client::from_conf(config.build()),
            endpoint: control_endpoint(options, shared, &region).await?,
            region,
            role: options.upload_role_arn.as_deref().and_then(RoleArn::parse),
            longest_s: AtomicU32::new(MAX_LIFE_S),
            remembered: Mutex::default(),
        })
    }

    /// Where and with what a device uploads to `streams`, which are its own, for `life_s` or less.
    pub async fn grant(
        &self,
        device: DeviceId,
        streams: &[Stream],
        life_s: u32,
        now: Timestamp,
    ) -> Result<UploadGrant> {
        let credentials = match &self.role {
            Some(role) => Some(self.credentials(role, device, streams, life_s, now).await?),
            None => None,
        };
        let (endpoint, region) = (self.endpoint.clone(), self.region.clone());
        Ok(UploadGrant { endpoint, region, credentials })
    }

    async fn credentials(
        &self,
        role: &RoleArn,
        device: DeviceId,
        streams: &[Stream],
        life_s: u32,
        now: Timestamp,
    ) -> Result<UploadCredentials> {
        let policy = self.policy(role, streams)?;
        let life_s = life_s.min(self.longest_s.load(Ordering::Relaxed));
        if let Some(known) = self.remembered.lock().get(&device)
            && (known.life_s, &known.policy) == (life_s, &policy)
            && now < known.renew_at
        {
            return Ok(known.credentials.clone());
        }
        let (life_s, credentials) = self.assume(role, device, &policy, life_s).await?;
        let renew_at = now.plus_millis(i64::from(life_s) * 1000 / 3 * 2);
        let known = Remembered { policy, life_s, renew_at, credentials: credentials.clone() };
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, known| now < known.renew_at);
        }
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(device, known);
        Ok(credentials)
    }

    fn policy(&self, role: &RoleArn, streams: &[Stream]) -> Result<String> {
        let arn = |stream: &Stream| role.stream(&self.region, &stream.media_stream_name);
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Action": ACTIONS,
                "Resource": streams.iter().map(arn).collect::<Vec<_>>(),
            }],
        })
        .to_string();
        if policy.len() > MAX_POLICY_CHARS {
            return Err(StorageError::Unavailable(format!(
                "the names of the {} media streams make a session policy of {} characters, and \
                 {MAX_POLICY_CHARS} are allowed",
                streams.len(),
                policy.len()
            )));
        }
        Ok(policy)
    }

    /// Credentials for `life_s`, or for an hour where the role gives no longer ones.
    async fn assume(
        &self,
        role: &RoleArn,
        device: DeviceId,
        policy: &str,
        life_s: u32,
    ) -> Result<(u32, UploadCredentials)> {
        let ask = |life_s: u32| {
            self.client
                .assume_role()
                .role_arn(&role.arn)
                .role_session_name(device.to_string())
                .policy(policy)
                .duration_seconds(i32::try_from(life_s).unwrap_or(i32::MAX))
                .send()
        };
        let mut given_s = life_s;
        let mut answer = ask(life_s).await;
        if let Err(refused) = &answer
            && refused.code() == Some("ValidationError")
            && life_s > CHAINED_LIFE_S
        {
            given_s = CHAINED_LIFE_S;
            answer = ask(given_s).await;
            if answer.is_ok() {
                self.longest_s.store(CHAINED_LIFE_S, Ordering::Relaxed);
            }
        }
        let answer = answer.map_err(|error| {
            let cause = match (error.code(), error.message()) {
                (Some(code), Some(message)) => format!("{code}: {message}"),
                _ => DisplayErrorContext(&error).to_string(),
            };
            StorageError::Unavailable(format!("AssumeRole of {}: {cause}", role.arn))
        })?;
        let credentials = answer.credentials.ok_or_else(|| {
            StorageError::Unavailable(format!("AssumeRole of {}: no credentials", role.arn))
        })?;
        let expires_ms = credentials.expiration.to_millis().unwrap_or(i64::MAX);
        let credentials = UploadCredentials {
            access_key_id: credentials.access_key_id,
            secret_access_key: SecretString::from(credentials.secret_access_key),
            session_token: SecretString::from(credentials.session_token),
            expires_at: Timestamp::from_millis(expires_ms),
        };
        Ok((given_s, credentials))
    }
}

/// Where the control plane of Kinesis Video Streams is, without a slash at the end.
async fn control_endpoint(
    options: &AwsOptions,
    shared: &SdkConfig,
    region: &str,
) -> Result<String> {
    let named = options.kinesis_endpoint_url.as_deref().or(shared.endpoint_url());
    if let Some(url) = named {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let unknown = |cause: String| {
        StorageError::Unavailable(format!("no endpoint of Kinesis in {region:?}: {cause}"))
    };
    let params = Params::builder().region(region).build().map_err(|e| unknown(e.to_string()))?;
    let endpoint = DefaultResolver::new().resolve_endpoint(&params).await;
    Ok(endpoint.map_err(|error| unknown(error.to_string()))?.url().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AccountId, StreamId};
    use aws_config::{BehaviorVersion, Region};
    use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const NOW: Timestamp = Timestamp::from_millis(1_763_803_800_000);

    #[test]
    fn role_names_are_taken_apart() {
        let cases = [
            ("arn:aws:iam::123456789012:role/upload", Some(("aws", "123456789012"))),
            ("arn:aws-cn:iam::123456789012:role/a/b", Some(("aws-cn", "123456789012"))),
            ("arn:aws:iam::12345678901:role/upload", None),
            ("arn:aws:iam::123456789012:user/upload", None),
            ("arn:aws:iam:eu:123456789012:role/upload", None),
            ("arn:aws:iam::123456789012:role/", None),
            ("upload", None),
        ];
        for (arn, expected) in cases {
            let parsed = RoleArn::parse(arn);
            let found = parsed.as_ref().map(|role| (&role.partition[..], &role.account[..]));
            assert_eq!(found, expected, "{arn}");
        }
    }

    fn streams(names: &[&str]) -> Vec<Stream> {
        let device = DeviceId::new(NOW);
        let stream = |(position, name): (usize, &&str)| Stream {
            id: StreamId::new(NOW),
            device,
            account: AccountId::new(NOW),
            name: name.to_string(),
            position: position as u8,
            media_stream_name: name.to_string(),
            created_at: NOW,
        };
        names.iter().enumerate().map(stream).collect()
    }

    async fn uploads(change: impl FnOnce(&mut AwsOptions)) -> Uploads {
        let mut options = AwsOptions {
            region: Some("eu-central-1".into()),
            upload_role_arn: Some("arn:aws:iam::123456789012:role/upload".into()),
            ..AwsOptions::default()
        };
        change(&mut options);
        let credentials = Credentials::new("id", "secret", None, None, "test");
        let shared = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(options.region.clone().map(Region::new))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Uploads::with(&options, &shared).await.unwrap()
    }

    /// A server that gives credentials for up to `longest_s`, each numbered, and says what it was
    /// asked for.
    async fn sts(longest_s: u32) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = String::new();
                let mut buffer = [0; 4096];
                while !request.contains("Version=2011-06-15") {
                    let read = stream.read(&mut buffer).await.unwrap();
                    request += std::str::from_utf8(&buffer[..read]).unwrap();
                }
                let form = request.split("\r\n\r\n").last().unwrap().to_owned();
                let field = form.split('&').find_map(|f| f.strip_prefix("DurationSeconds="));
                let life_s: u32 = field.unwrap().parse().unwrap();
                let number = {
                    let mut seen = seen.lock();
                    seen.push(form.clone());
                    seen.len()
                };
                let (status, body) = if life_s > longest_s {
                    let error = "<Error><Type>Sender</Type><Code>ValidationError</Code>\
                                 <Message>too long</Message></Error>";
                    (400, format!("<ErrorResponse>{error}</ErrorResponse>"))
                } else {
                    let credentials = format!(
                        "<AccessKeyId>ASIA{number}</AccessKeyId>\
                         <SecretAccessKey>a-secret-key</SecretAccessKey>\
                         <SessionToken>a-session-token</SessionToken>\
                         <Expiration>2026-11-22T10:00:00Z</Expiration>"
                    );
                    let result = format!("<Credentials>{credentials}</Credentials>");
                    let result = format!("<AssumeRoleResult>{result}</AssumeRoleResult>");
                    (200, format!("<AssumeRoleResponse>{result}</AssumeRoleResponse>"))
                };
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\
                     connection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        });
        (url, asked)
    }

    #[tokio::test]
    async fn a_policy_names_the_devices_streams_and_nothing_else() {
        for (region, partition) in [("eu-central-1", "aws"), ("cn-north-1", "aws-cn")] {
            let uploads = uploads(|options| {
                options.region = Some(region.into());
                options.upload_role_arn =
                    Some(format!("arn:{partition}:iam::123456789012:role/upload"));
            })
            .await;
            let role = uploads.role.as_ref().unwrap();
            let policy = uploads.policy(role, &streams(&["dev-main", "dev-sub"])).unwrap();
            let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
            let arn = |name: &str| {
                format!("arn:{partition}:kinesisvideo:{region}:123456789012:stream/{name}/*")
            };
            assert_eq!(
                policy["Statement"],
                json!([{
                    "Effect": "Allow",
                    "Action": [
                        "kinesisvideo:DescribeStream",
                        "kinesisvideo:GetDataEndpoint",
                        "kinesisvideo:PutMedia",
                    ],
                    "Resource": [arn("dev-main"), arn("dev-sub")],
                }])
            );
        }
        let uploads = uploads(|_| ()).await;
        let role = uploads.role.as_ref().unwrap();
        let long = "n".repeat(256);
        let refused = uploads.policy(role, &streams(&[&long[..]; 8])).unwrap_err().to_string();
        assert!(refused.contains("the 8 media streams"), "{refused}");
    }

    #[tokio::test]
    async fn endpoints_are_the_regions_or_the_ones_that_are_set() {
        for (region, url, expected) in [
            ("eu-central-1", None, "https://kinesisvideo.eu-central-1.amazonaws.com"),
            ("cn-north-1", None, "https://kinesisvideo.cn-north-1.amazonaws.com.cn"),
            ("eu-central-1", Some("http://127.0.0.1:1/"), "http://127.0.0.1:1"),
        ] {
            let uploads = uploads(|options| {
                options.region = Some(region.into());
                options.kinesis_endpoint_url = url.map(str::to_owned);
                options.upload_role_arn = None;
            })
            .await;
            let grant = uploads.grant(DeviceId::new(NOW), &[], 900, NOW).await.unwrap();
            assert_eq!((&grant.endpoint[..], &grant.region[..]), (expected, region));
            assert!(grant.credentials.is_none());
        }
    }

    #[tokio::test]
    async fn credentials_are_remembered_for_two_thirds_of_their_life() {
        let (url, asked) = sts(43_200).await;
        let uploads = uploads(|options| options.sts_endpoint_url = Some(url)).await;
        let (device, streams) = (DeviceId::new(NOW), streams(&["dev-main"]));
        for (life_s, after_ms, expected) in [
            (900, 0, "ASIA1"),
            (900, 599_000, "ASIA1"),
            (900, 600_000, "ASIA2"),
            // Another life is another grant.
            (3_600, 600_000, "ASIA3"),
        ] {
            let now = NOW.plus_millis(after_ms);
            let grant = uploads.grant(device, &streams, life_s, now).await.unwrap();
            let credentials = grant.credentials.unwrap();
            assert_eq!(credentials.access_key_id, expected, "{life_s} {after_ms}");
            let expires_at = Timestamp::from_millis(1_795_341_600_000);
            assert_eq!(credentials.expires_at, expires_at);
        }
        let asked = asked.lock();
        assert!(asked[0].contains(&format!("RoleSessionName={device}&")), "{}", asked[0]);
        assert!(asked[0].contains("stream%2Fdev-main%2F%2A"), "{}", asked[0]);
        assert!(asked[0].contains("DurationSeconds=900"), "{}", asked[0]);
    }

    #[tokio::test]
    async fn a_role_that_gives_an_hour_is_asked_for_an_hour() {
        let (url, asked) = sts(3_600).await;
        let uploads = uploads(|options| options.sts_endpoint_url = Some(url)).await;
        for expected_requests in [2, 3] {
            let device = DeviceId::new(NOW);
            uploads.grant(device, &streams(&["main"]), 43_200, NOW).await.unwrap();
            assert_eq!(asked.lock().len(), expected_requests);
        }
    }

    /// Everything that is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_granted_is_never_logged() {
        let (log, level) = (Log::default(), tracing::Level::TRACE);
        let sink = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(level);
        let subscriber = subscriber.with_writer(move || sink.clone()).finish();
        let guard = tracing::subscriber::set_default(subscriber);
        let (url, _) = sts(43_200).await;
        let uploads = uploads(|options| options.sts_endpoint_url = Some(url)).await;
        let grant = uploads.grant(DeviceId::new(NOW), &streams(&["main"]), 900, NOW).await.unwrap();
        tracing::info!(?grant, ?uploads, "granted");
        drop(guard);
        let logged = String::from_utf8_lossy(&log.0.lock()).into_owned();
        assert!(logged.contains("ASIA1"), "{logged}");
        for secret in ["a-secret-key", "a-session-token"] {
            assert!(!logged.contains(secret), "{logged}");
        }
    }

    #[tokio::test]
    async fn a_refusal_names_the_role_and_the_cause() {
        let (url, _) = sts(0).await;
        let uploads = uploads(|options| options.sts_endpoint_url = Some(url)).await;
        let refused = uploads.grant(DeviceId::new(NOW), &streams(&["main"]), 900, NOW).await;
        let refused = refused.unwrap_err().to_string();
        let expected = "AssumeRole of arn:aws:iam::123456789012:role/upload: ValidationError";
        assert!(refused.contains(expected), "{refused}");
    }
}
