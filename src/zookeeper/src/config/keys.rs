//! Every key of 3.8 in one table: what it defaults to, whether it acts here, and if not, why.
//!
//! Sources: `QuorumPeerConfig.parseProperties`, the system properties of `org.apache.zookeeper`, and the
//! administrator's guide of 3.8.

/// Where the original reads a key from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// From `zoo.cfg` alone.
    File,
    /// From the system property `zookeeper.KEY`, which `zoo.cfg` sets too.
    Property,
    /// From the system property `KEY`, without the prefix. This server takes it in `zoo.cfg` as well.
    Bare,
}

/// What a key does in this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It acts; this is what it says.
    Acts(&'static str),
    /// It is taken and has no effect, for this reason.
    None(&'static str),
    /// What it asks for, which this is, is not built: whoever asks for it is refused.
    NotBuilt(&'static str),
    /// A name of the administrator's guide that no server reads: the original reads this one.
    Misnamed(&'static str),
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in `zoo.cfg`. A `*` at the end stands for anything.
    pub name: &'static str,
    /// The value in force when it is not given.
    pub default: &'static str,
    /// Where the original reads it.
    pub scope: Scope,
    /// What it does here.
    pub effect: Effect,
}

const fn file(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, default, scope: Scope::File, effect: Effect::Acts(about) }
}

const fn property(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, default, scope: Scope::Property, effect: Effect::Acts(about) }
}

const fn bare(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, default, scope: Scope::Bare, effect: Effect::Acts(about) }
}

const fn idle(name: &'static str, scope: Scope, reason: &'static str) -> Key {
    Key { name, default: "", scope, effect: Effect::None(reason) }
}

/// A key whose work is not built; whoever builds it takes this away.
const fn missing(key: Key) -> Key {
    let effect = match key.effect {
        Effect::Acts(about) => Effect::NotBuilt(about),
        other => other,
    };
    Key { effect, ..key }
}

const fn misnamed(name: &'static str, real: &'static str) -> Key {
    Key { name, default: "", scope: Scope::Property, effect: Effect::Misnamed(real) }
}

const NO_JVM: &str = "there is no Java virtual machine";
const NO_NETTY: &str = "there is one kind of connection, which is neither NIO's nor Netty's";
const ONE_THREAD: &str = "requests are ordered by one thread, without a pool of workers";
const NO_CACHE: &str = "replies are made from the tree fast enough without a cache";
const EXACT_WATCHES: &str = "watches of closed connections are removed at once";
const NO_TRACKER: &str = "the last packets of a leader and its learners are not kept for the log";
const NO_PATH_STATISTICS: &str = "requests are not counted by path";
const UNREAD: &str = "requests that wait are not read yet, and end with their connection";
const LOGS: &str = "the log goes to standard error; RUST_LOG says how much of it";
const RECORDS: &str =
    "what is on disk or comes from a leader was taken once, and is read up to 64 MiB";
const OBSERVERS_LOG: &str =
    "observers always keep logs and snapshots, so that they need not be sent everything again";
const GROUP_COMMIT: &str = "what waits is synced together, and nothing is delayed for it";

use Scope::{Bare, File, Property};

/// The table, sorted by subject.
pub const KEYS: &[Key] = &[
    // Clients.
    file("clientPort", "", "Port for clients."),
    file("clientPortAddress", "0.0.0.0", "Address that the port for clients is opened on."),
    file(
        "clientPortListenBacklog",
        "-1",
        "Connections that wait to be accepted; -1 for as many as the system allows.",
    ),
    file("maxClientCnxns", "60", "Connections from one address; 0 for any number."),
    property("maxCnxns", "0", "Connections in all; 0 for any number."),
    property("clientTcpKeepAlive", "false", "TCP keep-alive on connections of clients."),
    file("minSessionTimeout", "", "Shortest session timeout in ms; 2 ticks if not given."),
    file("maxSessionTimeout", "", "Longest session timeout in ms; 20 ticks if not given."),
    file("tickTime", "3000", "Length of a tick in ms."),
    property(
        "nio.sessionlessCnxnTimeout",
        "10000",
        "Time in ms in which a new connection must ask for its session.",
    ),
    bare("jute.maxbuffer", "0xfffff", "Longest request in bytes."),
    idle("jute.maxbuffer.extrasize", Property, RECORDS),
    file("secureClientPort", "", "Port for clients that speak TLS."),
    file("secureClientPortAddress", "0.0.0.0", "Address that the TLS port is opened on."),
    file("localSessionsEnabled", "false", "Sessions that only their server knows."),
    file(
        "localSessionsUpgradingEnabled",
        "false",
        "Local sessions become global when they need it.",
    ),
    bare(
        "readonlymode.enabled",
        "false",
        "Serve reads to clients that allow it while there is no leader.",
    ),
    property("4lw.commands.whitelist", "srvr", "Four-letter words that are answered; * for all."),
    // Throttling.
    property(
        "globalOutstandingLimit",
        "1000",
        "Requests under way; beyond, a connection that has one under way is not read.",
    ),
    property(
        "request_throttle_max_requests",
        "0",
        "Requests under way; beyond, further ones wait. 0 for no such limit.",
    ),
    idle(
        "request_throttle_stall_time",
        Property,
        "requests that wait go on as soon as there is room",
    ),
    idle("request_throttle_drop_stale", Property, UNREAD),
    idle("request_stale_latency_check", Property, UNREAD),
    idle("request_stale_connection_check", Property, UNREAD),
    idle(
        "request_throttler.shutdownTimeout",
        Property,
        "requests that wait when the server ends are dropped with their connections",
    ),
    property(
        "throttled_op_wait_time",
        "0",
        "A request that waited longer, in ms, is refused with ThrottledOp; 0 for never.",
    ),
    property(
        "largeRequestThreshold",
        "-1",
        "Bytes above which a request counts as large; -1 for none.",
    ),
    property("largeRequestMaxBytes", "104857600", "Bytes of large requests under way."),
    property(
        "connection_throttle_tokens",
        "0",
        "Size of the bucket of new sessions; 0 for no limit.",
    ),
    property("connection_throttle_fill_time", "1", "Time in ms between refills of the bucket."),
    property("connection_throttle_fill_count", "1", "Tokens of a refill."),
    property(
        "connection_throttle_freeze_time",
        "-1",
        "Time in ms between changes of the chance to drop; -1 to drop none by chance.",
    ),
    property("connection_throttle_drop_increase", "0.02", "How much the chance grows."),
    property("connection_throttle_drop_decrease", "0.002", "How much the chance falls."),
    property(
        "connection_throttle_decrease_ratio",
        "0",
        "Part of the bucket that must be there for the chance to fall.",
    ),
    property(
        "connection_throttle_weight_enabled",
        "false",
        "Count new and renewed sessions by their weights.",
    ),
    property("connection_throttle_global_session_weight", "3", "Tokens of a new session."),
    property("connection_throttle_local_session_weight", "1", "Tokens of a local session."),
    property(
        "connection_throttle_renew_session_weight",
        "2",
        "Tokens of a session taken up again.",
    ),
    // Data.
    file("dataDir", "", "Directory of snapshots and myid."),
    file("dataLogDir", "", "Directory of transaction logs; dataDir if not given."),
    property("datadir.autocreate", "true", "Make data directories that are missing."),
    property("snapCount", "100000", "Transactions between snapshots."),
    property(
        "snapSizeLimitInKb",
        "4194304",
        "Size of the log between snapshots in KiB; 0 for any.",
    ),
    property("txnLogSizeLimitInKb", "", "Size of one log file in KiB."),
    property("preAllocSize", "65536", "What a log file grows by at a time, in KiB."),
    property("forceSync", "yes", "Sync the log before a write is acknowledged."),
    property("fsync.warningthresholdms", "1000", "A sync that takes longer, in ms, is logged."),
    file("autopurge.snapRetainCount", "3", "Snapshots that purging keeps, at least 3."),
    file("autopurge.purgeInterval", "0", "Hours between purges; 0 for never."),
    property("snapshot.trust.empty", "false", "Take transaction logs without a snapshot."),
    property("snapshot.compression.method", "", "Compression of snapshots: gz or snappy."),
    property("digest.enabled", "true", "Digests of the tree in logs and snapshots."),
    property(
        "serializeLastProcessedZxid.enabled",
        "false",
        "The last zxid in snapshots, as 3.9 has it.",
    ),
    property(
        "commitLogCount",
        "500",
        "Transactions kept for followers that missed a few, at least 500.",
    ),
    property(
        "snapshotSizeFactor",
        "0.33",
        "Part of a snapshot's size up to which followers get the log.",
    ),
    idle("flushDelay", Property, GROUP_COMMIT),
    idle("maxWriteQueuePollTime", Property, GROUP_COMMIT),
    idle("maxBatchSize", Property, GROUP_COMMIT),
    idle("compressed.snap*", Property, "it is called snapshot.compression.method"),
    // Znodes.
    property("extendedTypesEnabled", "false", "Nodes with a time to live."),
    idle(
        "emulate353TTLNodes",
        Property,
        "nodes with a time to live are stored as 3.5.4 and later do",
    ),
    property("enforceQuota", "false", "Refuse writes beyond hard quotas."),
    bare(
        "znode.container.checkIntervalMs",
        "60000",
        "Time in ms between looks for empty containers.",
    ),
    bare("znode.container.maxPerMinute", "10000", "Containers deleted in a minute at most."),
    bare(
        "znode.container.maxNeverUsedIntervalMs",
        "0",
        "Time in ms that a container may be without its first child; 0 for ever.",
    ),
    idle("maxResponseCacheSize", Property, NO_CACHE),
    idle("maxGetChildrenResponseCacheSize", Property, NO_CACHE),
    idle("watchManagerName", Property, EXACT_WATCHES),
    idle("watcherClean*", Property, EXACT_WATCHES),
    idle("maxInProcessingDeadWatchers", Property, EXACT_WATCHES),
    idle("bitHashCacheSize", Property, EXACT_WATCHES),
    idle(
        "closeSessionTxn.enabled",
        Property,
        "a closed session's ephemeral nodes are in its transaction",
    ),
    idle("pathStats.*", Property, NO_PATH_STATISTICS),
    // Who may do what.
    property("skipACL", "no", "Take no notice of ACLs."),
    property("DigestAuthenticationProvider.superDigest", "", "user:hash of the super user."),
    property("DigestAuthenticationProvider.enabled", "true", "The scheme digest."),
    property("DigestAuthenticationProvider.digestAlg", "SHA1", "Hash of the scheme digest."),
    property(
        "X509AuthenticationProvider.superUser",
        "",
        "Subject of the super user's certificate.",
    ),
    property("superUser", "", "SASL name of the super user."),
    property("authProvider*", "", "Further schemes."),
    property("enforce.auth.enabled", "false", "Serve only clients that have proven who they are."),
    property("enforce.auth.schemes", "", "By which schemes."),
    property("sessionRequireClientSASLAuth", "false", "Serve only clients that use SASL."),
    property("letAnySaslUserDoX", "", "Name in ACLs that stands for any SASL user."),
    property("SASLAuthenticationProvider.superPassword", "", "Password of SASL's user super."),
    property("client.certReload", "false", "Take new certificates for clients."),
    property("allowSaslFailedClients", "false", "Serve clients whose SASL failed."),
    property("ensembleAuthName", "", "Name of the ensemble, for clients that ask."),
    missing(property("ssl.ocsp", "false", "Ask whether a certificate was taken back.")),
    missing(property("ssl.quorum.ocsp", "false", "Ask whether a member's was taken back.")),
    property("ssl.*", "", "TLS: keys, certificates and what is accepted."),
    property("client.portUnification", "false", "TLS and plain text on the port for clients."),
    property("sasl.*", "", "SASL of clients."),
    bare("java.security.auth.login.config", "", "File of SASL's users."),
    idle(
        "enableEagerACLCheck",
        Property,
        "ACLs are checked once, by the server that orders the write",
    ),
    idle("audit.*", Property, "there is no audit log"),
    idle("kerberos.*", Property, "GSSAPI is not supported"),
    idle("requireKerberosConfig", Property, "GSSAPI is not supported"),
    idle("security.auth_to_local", Property, "GSSAPI is not supported"),
    idle("kinit", Property, "GSSAPI is not supported"),
    idle("fips-mode", Property, "ciphers and hosts are checked the same way with it"),
    // Ensemble.
    file("server.*", "", "A server of the ensemble."),
    file("group.*", "", "Servers of a group."),
    file("weight.*", "", "A server's weight in its group."),
    file("version", "0", "Version of the servers in this file, hexadecimal."),
    file("initLimit", "", "Ticks that joining a leader may take."),
    file("syncLimit", "", "Ticks that a follower may be silent."),
    file(
        "connectToLearnerMasterLimit",
        "0",
        "Ticks that connecting to a leader may take; 0 for 3 s, or initLimit if that is less.",
    ),
    file("electionAlg", "3", "How leaders are elected: only 3."),
    file("peerType", "participant", "participant or observer."),
    idle("syncEnabled", File, OBSERVERS_LOG),
    idle("observer.syncEnabled", Property, OBSERVERS_LOG),
    file("dynamicConfigFile", "", "File of the servers, which reconfiguration changes."),
    file("standaloneEnabled", "true", "A server alone is no ensemble."),
    file("reconfigEnabled", "false", "Servers may be added and removed."),
    file("quorumListenOnAllIPs", "false", "Open the ports for other servers on all addresses."),
    property("leaderServes", "yes", "Whether the leader serves clients."),
    property("cnxTimeout", "5000", "Time in ms to connect to another server for an election."),
    property("electionPortBindRetry", "3", "Tries to open the port for elections."),
    property("tcpKeepAlive", "false", "TCP keep-alive on connections of elections."),
    property("fastleader.minNotificationInterval", "200", "Time in ms between votes at first."),
    property(
        "fastleader.maxNotificationInterval",
        "2000",
        "Time in ms between votes at last; Apache's default is 60000.",
    ),
    idle(
        "observer.reconnectDelayMs",
        Property,
        "observers connect to the leader, whose election they wait for anyway",
    ),
    property(
        "observer.election.DelayMs",
        "0",
        "Time in ms within which observers begin to look for a leader; Apache's default is 200.",
    ),
    property("leader.maxConcurrentSnapSyncs", "10", "Observers sent a snapshot at a time."),
    property("leader.maxConcurrentDiffSyncs", "100", "Observers sent transactions at a time."),
    property(
        "leader.maxTimeToWaitForEpoch",
        "-1",
        "Time in ms that a leader waits for followers' promises; -1 for initLimit.",
    ),
    file("observerMasterPort", "0", "Port at which followers serve observers; 0 for none."),
    idle(
        "observerMaster.*",
        Property,
        "observers are sent what they missed out of the history that followers keep anyway",
    ),
    file("oraclePath", "", "File with 1 in it while one of two servers may go on alone."),
    file("multiAddress.enabled", "false", "Several addresses of a server."),
    idle(
        "multiAddress.*",
        File,
        "all addresses are dialled at once, and the first that answers is taken",
    ),
    file("sslQuorum", "false", "TLS between servers."),
    file("portUnification", "false", "TLS and plain text between servers."),
    file("sslQuorumReloadCertFiles", "false", "Take new certificates between servers."),
    file("quorum.auth.*", "", "SASL between servers."),
    idle("quorum.cnxn.threads.size", File, "connections take no threads"),
    idle("quorumCnxnTimeoutMs", Property, "dead connections between servers end with their pings"),
    idle("leaderConnectDelayDuringRetryMs", Property, "the leader is dialled every 100 ms"),
    idle("forceSnapshotSync", Property, "it is for tests of the original"),
    idle("leader.ackLoggingFrequency", Property, "acknowledgements are not logged"),
    idle("leader.closeSocketAsync", Property, "closing a connection never waits"),
    idle("learner.closeSocketAsync", Property, "closing a connection never waits"),
    idle("learner.asyncSending", Property, "sending never waits"),
    idle("leader.nodelay", Bare, "packets between servers are never delayed"),
    idle("follower.nodelay", Bare, "packets between servers are never delayed"),
    idle("follower.skipLearnerRequestToNextProcessor", Property, ONE_THREAD),
    idle("forward_learner_requests_to_commit_processor_disabled", Property, ONE_THREAD),
    idle("messageTracker.*", Property, NO_TRACKER),
    // Administration.
    property("admin.enableServer", "true", "The administrator's HTTP server."),
    property("admin.serverPort", "8080", "Its port."),
    property("admin.serverAddress", "0.0.0.0", "Its address."),
    property("admin.commandURL", "/commands", "Its path."),
    property("admin.idleTimeout", "30000", "Time in ms that a connection to it may be silent."),
    idle("admin.httpVersion", Property, "it speaks HTTP/1.1 and 1.0"),
    property(
        "admin.portUnification",
        "false",
        "TLS, with the keys of ssl.quorum.*, and plain text for the administrator.",
    ),
    property("admin.forceHttps", "false", "Only TLS for the administrator."),
    file("metricsProvider.className", "", "Prometheus's, to serve metrics over HTTP."),
    file("metricsProvider.httpHost", "0.0.0.0", "Address of the metrics."),
    file("metricsProvider.httpPort", "7000", "Port of the metrics."),
    file("metricsProvider.exportJvmInfo", "true", "Metrics of the process as well."),
    idle("metricsProvider.*", File, "metrics are kept without threads and queues of their own"),
    // What only Java has.
    idle("jvm.pause.*", File, NO_JVM),
    idle("nio.*", Property, NO_NETTY),
    idle("netty.*", Property, NO_NETTY),
    idle("serverCnxnFactory", Property, NO_NETTY),
    idle("intBufferStartingSizeBytes", Property, NO_JVM),
    idle("commitProcessor.*", Property, ONE_THREAD),
    idle("root.logger", Property, LOGS),
    idle("console.threshold", Property, LOGS),
    idle("log.*", Property, LOGS),
    idle("tracelog.*", Property, LOGS),
    idle("jmx.*", Property, "there is no JMX"),
    property("db.autocreate", "true", "Begin with an empty tree when there is no data."),
    // Names of the administrator's guide that no server reads.
    misnamed("connectionMaxTokens", "connection_throttle_tokens"),
    misnamed("connectionTokenFillTime", "connection_throttle_fill_time"),
    misnamed("connectionTokenFillCount", "connection_throttle_fill_count"),
    misnamed("connectionFreezeTime", "connection_throttle_freeze_time"),
    misnamed("connectionDropIncrease", "connection_throttle_drop_increase"),
    misnamed("connectionDropDecrease", "connection_throttle_drop_decrease"),
    misnamed("connectionDecreaseRatio", "connection_throttle_decrease_ratio"),
    misnamed("requestThrottleLimit", "request_throttle_max_requests"),
    misnamed("requestThrottleStallTime", "request_throttle_stall_time"),
    misnamed("requestThrottleDropStale", "request_throttle_drop_stale"),
    misnamed("requestStaleLatencyCheck", "request_stale_latency_check"),
    misnamed("requestStaleConnectionCheck", "request_stale_connection_check"),
    misnamed("maxConcurrentSnapSyncs", "leader.maxConcurrentSnapSyncs"),
    misnamed("maxConcurrentDiffSyncs", "leader.maxConcurrentDiffSyncs"),
    misnamed("advancedFlowControlEnabled", "netty.advancedFlowControl.enabled"),
    misnamed("throttledOpWaitTime", "throttled_op_wait_time"),
    misnamed("outstandingHandshake.limit", "netty.server.outstandingHandshake.limit"),
    misnamed("maxTimeToWaitForEpoch", "leader.maxTimeToWaitForEpoch"),
];

/// The entry of a key: the one of that name, else the one whose beginning fits.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name).or_else(|| {
        KEYS.iter().find(|key| {
            key.name.strip_suffix('*').is_some_and(|beginning| name.starts_with(beginning))
        })
    })
}

/// The key that a misspelt one most likely stands for.
pub fn nearest(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    KEYS.iter()
        .filter(|key| !key.name.ends_with('*'))
        .map(|key| (strsim::damerau_levenshtein(&key.name.to_ascii_lowercase(), &lower), key.name))
        .filter(|(distance, _)| *distance <= 2.max(name.len() / 6))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_there_once_and_says_what_it_does() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for key in KEYS {
            let (Effect::Acts(text)
            | Effect::None(text)
            | Effect::NotBuilt(text)
            | Effect::Misnamed(text)) = key.effect;
            assert!(!text.is_empty(), "{}", key.name);
            if let Effect::Misnamed(real) = key.effect {
                assert!(find(real).is_some(), "{real}");
            }
        }
    }

    #[test]
    fn families_and_slips_are_found() {
        assert_eq!(find("server.7").unwrap().name, "server.*");
        assert_eq!(find("metricsProvider.httpPort").unwrap().name, "metricsProvider.httpPort");
        assert_eq!(find("snapcount"), None);
        assert_eq!(nearest("snapcount"), Some("snapCount"));
        assert_eq!(nearest("maxClientConnections"), None);
        assert_eq!(nearest("maxClientCnxn"), Some("maxClientCnxns"));
    }
}
