//! Single situations of the merge queue worker, without chance.

use git_harness::domain::queue::{EntryId, EntryStatus};
use git_harness::domain::verdict::Finding;
use git_harness::testing::queue::{QueueExit, QueueHost as _};
use git_harness::wire::queue::{Ejection, QueueEvent};

use super::worker::Simulation;
use super::world::CandidateChange;

/// Returns a calm world with one worker and no chance in it.
fn calm() -> Simulation {
    let simulation = Simulation::new(1);
    {
        let mut repository = simulation.repository.borrow_mut();
        (repository.holds, repository.interferes, repository.world.flakes) = (0, false, 0);
        repository.settings.concurrency = 1;
        repository.settings.verify_each = false;
        repository.settings.batch = 8;
    }
    simulation
}

fn good() -> CandidateChange {
    CandidateChange::default()
}

fn bad() -> CandidateChange {
    CandidateChange { bad: true, ..CandidateChange::default() }
}

/// Returns the events of the log that end an entry's wait.
fn outcomes(simulation: &Simulation) -> Vec<String> {
    let repository = simulation.repository.borrow();
    let outcome = |event: &QueueEvent| match event {
        QueueEvent::Landed { entries, .. } => {
            let names: Vec<&str> = entries.iter().map(|entry| entry.entry.as_str()).collect();
            Some(format!("landed {}", names.join(" ")))
        }
        QueueEvent::Ejected { candidate, reason: Ejection::Rejected { .. } } => {
            Some(format!("rejected {}", candidate.entry))
        }
        QueueEvent::Ejected { candidate, .. } => Some(format!("left {}", candidate.entry)),
        QueueEvent::Removed { entry, .. } => Some(format!("removed {entry}")),
        QueueEvent::Added { .. }
        | QueueEvent::Replaced(_)
        | QueueEvent::Approved { .. }
        | QueueEvent::Paused { .. }
        | QueueEvent::Resumed { .. }
        | QueueEvent::Verified { .. } => None,
    };
    repository.log.iter().filter_map(|entry| outcome(&entry.event)).collect()
}

#[test]
fn branches_and_tasks_land_in_one_landing_after_one_verification() {
    let mut simulation = calm();
    for _ in 0..4 {
        simulation.add(good());
    }
    simulation.work();
    assert!(simulation.end_verification(0));
    simulation.work();
    let all = "landed branch-1 run-1/task-2 branch-3 run-1/task-4";
    assert_eq!(outcomes(&simulation), [all]);
    assert_eq!(simulation.repository.borrow().world.runs, 1);
    assert_eq!(simulation.worker.as_ref().unwrap().exit(), Some(QueueExit::Empty));
}

#[test]
fn change_of_rule_files_is_the_last_of_its_train() {
    let mut simulation = calm();
    simulation.add(good());
    simulation.add(CandidateChange { rules: true, ..CandidateChange::default() });
    simulation.add(good());
    simulation.add(good());
    assert_eq!(simulation.run_to_the_end(), Some(QueueExit::Empty));
    let landed = ["landed branch-1 run-1/task-2", "landed branch-3 run-1/task-4"];
    assert_eq!(outcomes(&simulation), landed);
    assert_eq!(simulation.repository.borrow().world.runs, 2);
}

#[test]
fn entry_removed_while_it_is_verified_does_not_land() {
    let mut simulation = calm();
    simulation.add(good());
    simulation.work();
    simulation.remove("branch-1");
    assert!(simulation.end_verification(0));
    simulation.work();
    assert_eq!(outcomes(&simulation), ["removed branch-1"]);
    assert!(simulation.repository.borrow().world.landed.is_empty());
}

#[test]
fn failing_entry_is_rejected_after_it_failed_alone_twice() {
    let mut simulation = calm();
    simulation.add(bad());
    simulation.run_to_the_end();
    assert_eq!(outcomes(&simulation), ["rejected branch-1"]);
    // The entry in a train, the entry alone, and the tip without it.
    assert_eq!(simulation.repository.borrow().world.runs, 3);
}

#[test]
fn failing_tip_holds_the_queue_and_charges_no_entry() {
    let mut simulation = calm();
    {
        let mut repository = simulation.repository.borrow_mut();
        let number = repository.world.change(bad()).0;
        repository.world.push(number);
    }
    simulation.add(good());
    let exit = simulation.run_to_the_end();
    let Some(QueueExit::NeedsPerson(reason)) = exit else { panic!("{exit:?}") };
    assert!(reason.contains("fails its own checks"), "{reason}");
    assert_eq!(outcomes(&simulation), [""; 0]);
    let tip = simulation.repository.borrow().world.tip().0;
    assert_eq!(simulation.worker.as_ref().unwrap().failing_tip(), Some(tip));
}

#[test]
fn five_infrastructure_faults_of_the_tip_need_a_person() {
    let mut simulation = calm();
    simulation.add(good());
    let mut faults = 0;
    while simulation.exit().is_none() {
        simulation.repository.borrow_mut().now += 120_000;
        simulation.work();
        faults += usize::from(simulation.end_verification(1_000_000));
    }
    // Two of the train, two of the entry alone, and five of the tip without it.
    assert_eq!(faults, 2 + 2 + 5);
    assert!(matches!(simulation.exit(), Some(QueueExit::NeedsPerson(_))));
    assert_eq!(outcomes(&simulation), [""; 0], "no entry is charged");
}

#[test]
fn entry_that_cannot_be_checked_out_is_rejected_and_the_others_land() {
    let mut simulation = calm();
    simulation.add(good());
    simulation.add(CandidateChange { unverifiable: true, ..CandidateChange::default() });
    simulation.add(good());
    simulation.run_to_the_end();
    let mut outcomes = outcomes(&simulation);
    outcomes.sort();
    assert_eq!(outcomes, ["landed branch-1", "landed branch-3", "rejected run-1/task-2"]);
}

#[test]
fn refused_entry_costs_no_verification() {
    let mut simulation = calm();
    simulation.add(CandidateChange { refused: true, ..CandidateChange::default() });
    simulation.run_to_the_end();
    assert_eq!(outcomes(&simulation), ["rejected branch-1"]);
    assert_eq!(simulation.repository.borrow().world.runs, 0);
}

#[test]
fn landing_on_hold_is_tried_again_when_the_hold_is_over() {
    let mut simulation = calm();
    simulation.add(good());
    simulation.repository.borrow_mut().holds = 1_000_000;
    simulation.work();
    assert!(simulation.end_verification(0));
    simulation.work();
    let exit = simulation.exit();
    assert!(matches!(&exit, Some(QueueExit::NeedsPerson(why)) if why.contains("in the way")));
    simulation.repository.borrow_mut().holds = 0;
    simulation.work();
    assert_eq!(outcomes(&simulation), [""; 0], "the hold lasts");
    simulation.repository.borrow_mut().now += 10_000;
    simulation.work();
    assert_eq!(outcomes(&simulation), ["landed branch-1"]);
}

#[test]
fn paused_queue_verifies_nothing_until_it_is_resumed() {
    let mut simulation = calm();
    let paused = QueueEvent::Paused { by: "a person".into() };
    simulation.repository.borrow_mut().append(paused);
    simulation.add(good());
    simulation.work();
    assert!(!simulation.end_verification(0));
    assert!(matches!(simulation.exit(), Some(QueueExit::Waiting(_))));
    let worker = simulation.worker.as_ref().unwrap();
    let waits = worker.queue().items().all(|item| item.status == EntryStatus::Waiting);
    assert!(waits);
    let resumed = QueueEvent::Resumed { by: "a person".into() };
    simulation.repository.borrow_mut().append(resumed);
    simulation.run_to_the_end();
    assert_eq!(outcomes(&simulation), ["landed branch-1"]);
}

#[test]
fn verdict_findings_of_a_rejected_task_reach_the_log() {
    let mut simulation = calm();
    simulation.add(good());
    simulation.run_to_the_end();
    simulation.add(bad());
    simulation.run_to_the_end();
    let (_, log) = simulation.worker.as_mut().unwrap().host().read_log(None).unwrap();
    let rejected = log.into_iter().find_map(|entry| match entry.event {
        QueueEvent::Ejected { reason: Ejection::Rejected { findings, .. }, .. } => Some(findings),
        QueueEvent::Ejected { .. }
        | QueueEvent::Added { .. }
        | QueueEvent::Replaced(_)
        | QueueEvent::Approved { .. }
        | QueueEvent::Removed { .. }
        | QueueEvent::Paused { .. }
        | QueueEvent::Resumed { .. }
        | QueueEvent::Landed { .. }
        | QueueEvent::Verified { .. } => None,
    });
    let finding = Finding::from(rejected.unwrap().remove(0));
    assert_eq!((finding.check.as_str(), finding.attempt), ("tests", 1));
}

#[test]
fn task_that_fails_with_a_landed_branch_names_the_branch() {
    let mut simulation = calm();
    simulation.repository.borrow_mut().joint = true;
    simulation.add(good());
    simulation.add(CandidateChange { breaks: vec![0], ..CandidateChange::default() });
    simulation.run_to_the_end();
    assert_eq!(outcomes(&simulation), ["landed branch-1", "rejected run-1/task-2"]);
    let repository = simulation.repository.borrow();
    let rejection = repository.log.iter().find_map(|entry| {
        let QueueEvent::Ejected { reason, .. } = &entry.event else { return None };
        let Ejection::Rejected { findings, partner, .. } = reason else { return None };
        Some((findings, partner.as_ref().unwrap()))
    });
    let (findings, partner) = rejection.unwrap();
    assert_eq!(
        (partner.entry.as_deref(), &partner.commit.0),
        (Some("change 0"), &repository.world.tip().0)
    );
    // The next attempt of the task is told so.
    assert_eq!(findings[0].text, partner.to_string());
}

/// Returns a world in which change 0 has landed, and in which the second entry, which does not go
/// with it, has just failed alone. Trains have one entry.
fn joint_failure() -> Simulation {
    let mut simulation = calm();
    {
        let mut repository = simulation.repository.borrow_mut();
        (repository.joint, repository.settings.batch) = (true, 1);
    }
    simulation.add(good());
    simulation.run_to_the_end();
    simulation.add(CandidateChange { breaks: vec![0], ..CandidateChange::default() });
    let second = EntryId::parse("run-1/task-2").unwrap();
    let is_ejected = |simulation: &Simulation| {
        let worker = simulation.worker.as_ref().unwrap();
        let item = worker.queue().item(&second);
        item.is_some_and(|item| matches!(item.status, EntryStatus::Ejected(_)))
    };
    while !is_ejected(&simulation) {
        simulation.work();
        assert!(simulation.end_verification(0));
    }
    simulation
}

/// Returns the entry with which an entry was rejected.
fn partner(simulation: &Simulation) -> Option<String> {
    let repository = simulation.repository.borrow();
    repository.log.iter().find_map(|entry| {
        let QueueEvent::Ejected { reason, .. } = &entry.event else { return None };
        let Ejection::Rejected { partner, .. } = reason else { return None };
        partner.as_ref()?.entry.clone()
    })
}

#[test]
fn search_for_the_partner_comes_after_the_trains_that_wait() {
    let mut simulation = joint_failure();
    (0..3).for_each(|_| simulation.add(good()));
    simulation.run_to_the_end();
    let ends = [
        "landed branch-1",
        "landed branch-3",
        "landed run-1/task-4",
        "landed branch-5",
        "rejected run-1/task-2",
    ];
    assert_eq!(outcomes(&simulation), ends);
    assert_eq!(partner(&simulation).as_deref(), Some("change 0"));
}

#[test]
fn search_for_the_partner_does_not_wait_for_later_entries() {
    let mut simulation = joint_failure();
    simulation.add(good());
    simulation.work();
    for _ in 0..6 {
        simulation.add(good());
        assert!(simulation.end_verification(0));
        simulation.work();
    }
    let ends = ["landed branch-1", "landed branch-3", "rejected run-1/task-2"];
    assert_eq!(outcomes(&simulation)[..3], ends);
}

#[test]
fn paused_queue_starts_no_search_for_a_partner() {
    let mut simulation = joint_failure();
    simulation.repository.borrow_mut().append(QueueEvent::Paused { by: "a person".into() });
    simulation.work();
    assert!(!simulation.end_verification(0), "a search was started");
    assert!(matches!(simulation.exit(), Some(QueueExit::Waiting(_))));
    simulation.repository.borrow_mut().append(QueueEvent::Resumed { by: "a person".into() });
    simulation.run_to_the_end();
    assert_eq!(partner(&simulation).as_deref(), Some("change 0"));
}

#[test]
fn partner_is_named_after_many_commits_have_followed() {
    let mut simulation = joint_failure();
    {
        let mut repository = simulation.repository.borrow_mut();
        for _ in 0..70 {
            let number = repository.world.change(good()).0;
            repository.world.push(number);
        }
    }
    simulation.run_to_the_end();
    assert_eq!(outcomes(&simulation), ["landed branch-1", "rejected run-1/task-2"]);
    assert_eq!(partner(&simulation).as_deref(), Some("change 0"));
    assert_eq!(simulation.repository.borrow().world.runs, 4, "one verification of the search");
}
