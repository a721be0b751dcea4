//! Genesis, nodes, the layout.

use meta::{
    Addresses, BootNode, Command, FeatureLevel, JoinNonce, LogPosition, NodeId, Outcome, RegisterNode, Rejected, view,
};

use crate::replica::{Replica, commit, generation, init, layout, register};
use crate::universe::{blob, repository};

fn boot(boot_count: u64, index: u64) -> Command {
    Command::BootNode(BootNode {
        node: NodeId::new(1),
        boot_count,
        last_log: Some(LogPosition { term: 1, index }),
        feature_level: FeatureLevel::FIRST,
        addresses: None,
    })
}

#[test]
fn nothing_is_accepted_before_genesis() {
    let mut replica = Replica::default();
    assert_eq!(replica.refuse(register(1)), Rejected::NotInitialized);
    assert_eq!(replica.state.records().count(), 0);
}

#[test]
fn genesis_happens_once() {
    let mut replica = Replica::default();
    assert_eq!(replica.propose(init(1)), Outcome::Initialized);
    assert_eq!(replica.propose(init(1)), Outcome::Initialized);
    assert!(matches!(
        replica.refuse(init(2)),
        Rejected::AlreadyInitialized { epoch: 1, .. }
    ));
}

#[test]
fn a_nonce_gets_one_id_and_the_latest_address() {
    let mut replica = Replica::formed();
    let id = NodeId::new(3);
    assert_eq!(replica.propose(register(9)), Outcome::NodeRegistered { id });
    let moved = Command::RegisterNode(RegisterNode {
        nonce: JoinNonce::new(9),
        addresses: Addresses::default(),
        zone: String::new(),
        feature_level: FeatureLevel::FIRST,
    });
    assert_eq!(replica.propose(moved), Outcome::NodeRegistered { id });
    let node = view::node(&replica.state, id).unwrap().unwrap();
    assert_eq!(node.addresses, Addresses::default());
    assert_eq!(
        replica.propose(register(10)),
        Outcome::NodeRegistered { id: NodeId::new(4) }
    );
}

#[test]
fn a_node_that_went_backwards_is_refused() {
    let mut replica = Replica::formed();
    replica.accept(boot(2, 10));
    replica.accept(boot(2, 10));
    replica.accept(boot(3, 12));
    for older in [boot(2, 12), boot(4, 11), boot(3, 13)] {
        let recorded = Rejected::NodeWentBackwards {
            node: NodeId::new(1),
            boot_count: 3,
            last_log: Some(LogPosition { term: 1, index: 12 }),
        };
        assert_eq!(replica.refuse(older), recorded);
    }
}

#[test]
fn an_overlong_address_is_refused() {
    let mut replica = Replica::formed();
    let command = Command::RegisterNode(RegisterNode {
        nonce: JoinNonce::new(9),
        addresses: Addresses {
            grpc: "x".repeat(600),
            ..Addresses::default()
        },
        zone: String::new(),
        feature_level: FeatureLevel::FIRST,
    });
    assert!(matches!(replica.refuse(command), Rejected::FieldTooLong { .. }));
}

#[test]
fn a_layout_replaces_the_one_its_proposer_saw() {
    let mut replica = Replica::formed();
    assert_eq!(replica.propose(layout(0, &[1, 2])), Outcome::LayoutSet { version: 1 });
    assert_eq!(replica.refuse(layout(0, &[2])), Rejected::LayoutChanged { version: 1 });
    assert_eq!(replica.refuse(layout(1, &[1, 1])), Rejected::LayoutInvalid);
    assert_eq!(
        replica.refuse(layout(1, &[1, 5])),
        Rejected::UnknownNode { node: NodeId::new(5) }
    );
    assert_eq!(
        view::layout(&replica.state).unwrap().nodes(),
        [1, 2].map(NodeId::new).into()
    );
}

#[test]
fn a_blob_of_an_unknown_node_or_a_later_epoch_is_refused() {
    let mut replica = Replica::formed();
    let unknown = Rejected::UnknownNode { node: NodeId::new(8) };
    assert_eq!(
        replica.refuse(commit(&repository(0), &blob(0), generation(8, 1, 0))),
        unknown
    );
    let later = meta::Gen {
        epoch: 2,
        ..generation(1, 1, 0)
    };
    assert_eq!(
        replica.refuse(commit(&repository(0), &blob(0), later)),
        Rejected::GenRefused
    );
}
