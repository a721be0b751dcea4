use super::*;

fn updated(interval: &str, filters: &[&str], hours: i64) -> Option<Vec<String>> {
    let mut cluster = Cluster::new()
        .image("a", "nginx:1")
        .image("b", "nginx:2")
        .image("c", "redis:1");
    let spec = RepositorySpec {
        name: "docker.io/library/nginx".to_owned(),
        update_interval: Some(interval.to_owned()),
        update_filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        ..RepositorySpec::default()
    };
    let mut object = Repository::new("r", spec);
    object.metadata.creation_timestamp = Some(Time(now()));
    cluster
        .0
        .apply(Change::Repository(Seen::Changed("r".to_owned(), object)));
    let actions = plan(&cluster.0, &policy(), now() + hours.hours()).actions;
    actions.into_iter().find_map(|action| match action {
        Action::Update { images, .. } => Some(images),
        _ => None,
    })
}

#[test]
fn images_are_checked_when_the_interval_is_over() {
    assert_eq!(updated("2h", &[], 1), None);
    let both = ["docker.io/library/nginx:1", "docker.io/library/nginx:2"];
    assert_eq!(updated("2h", &[], 2).unwrap(), both);
}

#[test]
fn filters_match_anywhere_in_the_image_as_it_is_written() {
    assert_eq!(updated("1h", &[":2", "zzz"], 1).unwrap(), ["docker.io/library/nginx:2"]);
    assert_eq!(updated("1h", &["^redis"], 1).unwrap(), Vec::<String>::new());
    assert_eq!(
        updated("1h", &["("], 1).unwrap(),
        Vec::<String>::new(),
        "a filter that is none matches nothing"
    );
}

#[test]
fn an_interval_that_is_none_asks_for_nothing() {
    for interval in ["0s", "-1h", "daily"] {
        assert_eq!(updated(interval, &[], 1000), None, "{interval}");
    }
}
