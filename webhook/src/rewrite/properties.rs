//! What holds for every pod.

use proptest::prelude::*;
use serde_json::{Value, json};

use proto::v1::Admission;

use super::tests::{PORT, parse, rules, subject};
use super::*;

const IMAGE: &str = "([a-z]{1,3}\\.io(:[1-9][0-9]{0,3})?/|team-5000/)?[a-z]{1,4}(:[a-z0-9]{1,3})?";

fn image() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => IMAGE,
        2 => "localhost:7439/[a-z]{1,2}(\\.io)?-[1-9][0-9]{0,3}/[a-z]{1,2}",
        2 => IMAGE.prop_map(|image| oci::rewritten::rewrite(&image, PORT).unwrap()),
        1 => IMAGE.prop_map(|image| oci::rewritten::rewrite(&image, 5555).unwrap()),
        1 => Just("localhost:7439/".to_owned()),
        1 => "\\PC{0,9}",
    ]
}

fn container() -> impl Strategy<Value = Value> {
    let pull_policy = prop::option::of(prop::sample::select(vec!["Never", "Always", "IfNotPresent"]));
    (image(), pull_policy).prop_map(|(image, policy)| json!({"image": image, "imagePullPolicy": policy, "other": [1]}))
}

fn named(prefix: &str, mut containers: Vec<Value>) -> Value {
    for (index, container) in containers.iter_mut().enumerate() {
        container["name"] = json!(format!("{prefix}{index}"));
    }
    json!(containers)
}

fn annotations() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "original-image-c0",
        "original-image-c1",
        "original-init-image-i0",
        "kuik.enix.io/not-rewritten",
        "kuik.enix.io/restored",
        "kuik.enix.io/rewrite-images",
        "other/~key",
    ]);
    let value = prop_oneof![
        IMAGE,
        Just("true".to_owned()),
        Just("{\"c0\":\"x\",\"gone\":\"y\"}".to_owned())
    ];
    prop::option::of(prop::collection::btree_map(key, value, 0..4)).prop_map(|map| json!(map))
}

fn pod() -> impl Strategy<Value = Value> {
    let containers = |most| prop::collection::vec(container(), 0..most);
    (
        containers(4),
        containers(3),
        prop::collection::vec(image(), 0..2),
        annotations(),
    )
        .prop_map(|(containers, init, volumes, annotations)| {
            let volume = |(index, image)| json!({"name": format!("v{index}"), "image": {"reference": image}});
            let volumes: Vec<Value> = volumes.into_iter().enumerate().map(volume).collect();
            json!({
                "metadata": {"name": "p", "annotations": annotations},
                "spec": {
                    "containers": named("c", containers),
                    "initContainers": named("i", init),
                    "volumes": volumes,
                    "nodeName": "n",
                },
            })
        })
}

/// An answer for any reference, the same each time.
fn answers(subject: &Subject, rules: &Rules, salt: u32) -> Admissions {
    if salt.is_multiple_of(7) {
        return Admissions::Withheld(Kept::TierSilent);
    }
    let answer = |reference: &String| {
        let sum = reference
            .bytes()
            .fold(salt, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let number = i32::try_from(sum % 14).unwrap();
        Admission::try_from(number).unwrap_or(Admission::Admitted)
    };
    let references = references(subject, rules).into_iter();
    Admissions::Answered(
        references
            .map(|reference| (reference.clone(), answer(&reference).into()))
            .collect(),
    )
}

fn once(pod: &Value, occasion: Occasion, salt: u32) -> (Value, Rewriting) {
    let (subject, rules) = (subject(pod, occasion), rules("ignored_images = [\"z\"]"));
    let rewriting = rewrite(&subject, &rules, &answers(&subject, &rules, salt));
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &rewriting.patch).unwrap();
    (patched, rewriting)
}

/// The pod without what we may change.
fn rest(pod: &Value) -> Value {
    let mut rest = pod.clone();
    let metadata = rest["metadata"].as_object_mut().unwrap();
    metadata.remove("labels");
    metadata.remove("annotations");
    let spec = rest["spec"].as_object_mut().unwrap();
    for list in ["containers", "initContainers", "volumes"] {
        for item in spec[list].as_array_mut().unwrap() {
            item.as_object_mut().unwrap().remove("image");
        }
    }
    rest
}

proptest! {
    #[test]
    fn patched_pod_is_whole_and_each_image_original_or_rewritten(pod in pod(), salt in 0u32..1000) {
        let (patched, rewriting) = once(&pod, Occasion::Create, salt);
        prop_assert_eq!(rest(&patched), rest(&pod));
        let (before, after) = (parse(&pod), parse(&patched));
        let (before, after_images) = (before.images(), after.images());
        prop_assert_eq!(before.len(), after_images.len());
        for ((old, new), decision) in before.iter().zip(&after_images).zip(&rewriting.decisions) {
            let key = original_image_key(new.place, new.name);
            match decision {
                Decision::Rewritten | Decision::Already => {
                    let original = after.annotation(&key).unwrap();
                    prop_assert_eq!(oci::rewritten::rewrite(original, PORT).unwrap(), new.image);
                }
                Decision::Kept(_) => prop_assert_eq!(old.image, new.image),
                Decision::GivenBack(_) => {
                    let possible = oci::rewritten::originals(oci::rewritten::strip(old.image).unwrap());
                    let annotated = parse(&pod).annotation(&key) == Some(new.image);
                    prop_assert!(annotated || possible.iter().any(|original| original == new.image));
                }
                Decision::Left => prop_assert!(false, "a new pod's images are all looked at"),
            }
        }
    }

    #[test]
    fn rewriting_twice_is_rewriting_once(pod in pod(), salt in 0u32..1000) {
        let (patched, _) = once(&pod, Occasion::Create, salt);
        let (again, second) = once(&patched, Occasion::Create, salt);
        prop_assert_eq!(again, patched, "{:?}", second.patch);
        prop_assert!(second.patch.0.is_empty(), "{:?}", second.patch);
    }

    #[test]
    fn update_that_changes_nothing_changes_nothing(pod in pod(), salt in 0u32..1000, later in 0u32..1000) {
        let (patched, _) = once(&pod, Occasion::Create, salt);
        let old = Box::new(parse(&patched));
        let (again, _) = once(&patched, Occasion::Update { old }, later);
        prop_assert_eq!(again, patched);
    }
}
