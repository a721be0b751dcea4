//! News about repositories that wait for an object to be told about. Pure.
//!
//! A grant is asked for as soon as a pod is seen, which may be before its Repository is there.

use std::collections::VecDeque;

use kube::Resource;

use crate::action::{Action, Notice};
use crate::crd::Repository;
use crate::metrics;
use crate::state::Watched;

/// News that wait to be told. In a flood, such as after a secret of many namespaces has ended, the newest tell the most.
pub(crate) const NEWS_MAX: usize = 100;

/// News, the oldest first, by `host/name`.
#[derive(Default)]
pub(crate) struct News {
    waiting: VecDeque<(String, Notice)>,
}

impl News {
    pub(crate) fn add(&mut self, repository: String, notice: Notice) {
        if self.waiting.len() == NEWS_MAX {
            self.waiting.pop_front();
            metrics::untold();
        }
        self.waiting.push_back((repository, notice));
    }

    /// Takes out those that can be told.
    pub(crate) fn take(&mut self, repositories: &Watched<String, Repository>) -> Vec<Action> {
        let mut told = Vec::new();
        self.waiting.retain(|(repository, notice)| {
            let mut objects = repositories.iter().map(|(_, object)| object);
            let Some(object) = objects.find(|object| object.spec.name == *repository) else {
                return true;
            };
            told.push(Action::TellRepository {
                about: Box::new(object.object_ref(&())),
                notice: notice.clone(),
            });
            false
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::RepositorySpec;
    use crate::state::Seen;

    #[test]
    fn what_is_heard_before_there_is_an_object_is_told_about_it_once() {
        let mut news = News::default();
        let mut repositories = Watched::default();
        news.add("quay.io/a".to_owned(), Notice::normal("CredentialsAccepted", "yes"));
        assert_eq!(news.take(&repositories), []);
        let spec = RepositorySpec {
            name: "quay.io/a".to_owned(),
            ..RepositorySpec::default()
        };
        let object = Repository::new("quay.io-a", spec);
        repositories.apply(Seen::Changed("quay.io-a".to_owned(), object));
        assert_eq!(news.take(&repositories).len(), 1);
        assert_eq!(news.take(&repositories), []);
    }

    #[test]
    fn news_that_nobody_can_be_told_do_not_pile_up() {
        let mut news = News::default();
        for n in 0..2 * NEWS_MAX {
            news.add(format!("quay.io/{n}"), Notice::normal("CredentialsAccepted", "yes"));
        }
        assert_eq!(news.waiting.len(), NEWS_MAX);
        assert_eq!(news.waiting[0].0, format!("quay.io/{NEWS_MAX}"));
    }
}
