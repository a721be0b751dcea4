use super::*;

const GOOD: &str = r#"
        ordinal = 0
        data_dir = "/var/lib/kuik"
        [listen]
        registry = "127.0.0.1:5000"
        grpc = "127.0.0.1:5001"
        admin = "127.0.0.1:8080"
        [[peers]]
        ordinal = 0
        grpc = "http://127.0.0.1:5001"
        registry = "http://127.0.0.1:5000"
    "#;

fn load(text: &str) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(file.path()).map_err(|error| {
        let source = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("{error}: {source}")
    })
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.copies.get(), COPIES_DEFAULT);
    assert_eq!(config.fill.no_progress, FILL_NO_PROGRESS);
    assert_eq!(config.node_name, "node-0");
    assert!(!config.allow_genesis);
}

fn named(text: &str, name: &str) -> Result<Config, ConfigError> {
    let raw: RawConfig = toml::from_str(text).unwrap();
    raw.check(Some(name.to_owned()))
}

#[test]
fn the_ordinal_is_the_number_at_the_end_of_the_name_where_none_is_written() {
    let unnumbered = GOOD.replacen("ordinal = 0", "", 1);
    let config = named(&unnumbered, "cache-registry-0").unwrap();
    assert_eq!((config.ordinal, config.node_name.as_str()), (0, "cache-registry-0"));
    assert_eq!(named(GOOD, "cache-registry-7").unwrap().ordinal, 0);
    for name in ["cache-", "0é", "cache-4294967296"] {
        let error = named(&unnumbered, name).unwrap_err().to_string();
        assert!(error.contains("ordinal"), "{name}: {error}");
    }
    let unlisted = named(&unnumbered, "cache-12").unwrap_err().to_string();
    assert!(unlisted.contains("12") && unlisted.contains("not listed"), "{unlisted}");
}

#[test]
fn access_is_not_enforced_unless_told() {
    assert!(!load(GOOD).unwrap().access.enforce);
    let text = format!("{GOOD}\n[access]\nenforce = true\nkeys_dir = \"/etc/kuik/kek\"");
    let access = load(&text).unwrap().access;
    assert!(access.enforce);
    assert_eq!(access.keys_dir.unwrap(), PathBuf::from("/etc/kuik/kek"));
}

#[test]
fn the_volume_alone_bounds_the_data_unless_a_quota_does() {
    assert_eq!(load(GOOD).unwrap().quota_bytes, None);
    let with = |bytes: u64| load(&format!("{GOOD}\n[storage]\nquota_bytes = {bytes}"));
    assert_eq!(with(QUOTA_BYTES_MIN).unwrap().quota_bytes, Some(QUOTA_BYTES_MIN));
    let error = with(QUOTA_BYTES_MIN - 1).unwrap_err();
    assert!(error.contains("storage.quota_bytes"), "{error}");
}

#[test]
fn a_key_that_does_not_exist_is_named() {
    let error = load(&format!("copy = 2\n{GOOD}")).unwrap_err();
    assert!(error.contains("copy") && error.contains("line 1"), "{error}");
}

#[test]
fn traffic_is_plain_only_where_the_urls_say_so() {
    let secured = GOOD.replace("http://", "https://");
    let forgotten = load(&secured).unwrap_err();
    assert!(
        forgotten.contains("tls") && forgotten.contains("is missing"),
        "{forgotten}"
    );
    let tls = "\n[tls]\nca = \"ca\"\ncert = \"cert\"\nkey = \"key\"";
    assert!(load(&format!("{secured}{tls}")).unwrap().tls.is_some());
    let mixed = secured.replace("registry = \"https://", "registry = \"http://");
    let mixed = load(&format!("{mixed}{tls}")).unwrap_err();
    assert!(mixed.contains("http://127.0.0.1:5000"), "{mixed}");
}

#[test]
fn impossible_values_are_refused_by_key() {
    let no_copies = load(&format!("copies = 0\n{GOOD}")).unwrap_err();
    assert!(no_copies.contains("copies"), "{no_copies}");
    let stranger = load(&GOOD.replacen("ordinal = 0", "ordinal = 7", 1)).unwrap_err();
    assert!(stranger.contains("peers") && stranger.contains('7'), "{stranger}");
}
