//! A member of a group: the crate's librdkafka. See ../../member.py.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

#[derive(Clone, Default)]
struct Context {
    owned: Arc<Mutex<BTreeSet<i32>>>,
    closing: Arc<AtomicBool>,
}

fn text<'a>(partitions: impl Iterator<Item = &'a i32>) -> String {
    let words: Vec<String> = partitions.map(|p| p.to_string()).collect();
    match words.len() {
        0 => "-".into(),
        _ => words.join(","),
    }
}

fn numbers(list: &TopicPartitionList) -> BTreeSet<i32> {
    list.elements().iter().map(|e| e.partition()).collect()
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let closing = self.closing.load(Ordering::SeqCst);
            if list.count() > 0 && !closing && !consumer.assignment_lost() {
                commit(consumer);
            }
            let gone = numbers(list);
            self.owned.lock().unwrap().retain(|p| !gone.contains(p));
            if !gone.is_empty() {
                println!("revoked {}", text(gone.iter()));
            }
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            let mut owned = self.owned.lock().unwrap();
            owned.extend(numbers(list));
            println!("assigned {}", text(owned.iter()));
        }
    }
}

fn commit(consumer: &BaseConsumer<Context>) {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(e) => panic!("commit: {e}"),
    }
}

pub fn run(args: &[String]) {
    let mut config = super::config(&[
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("fetch.wait.max.ms", "100"),
    ]);
    config.set("group.id", &args[1]);
    if args[2] == "consumer" {
        // Sessions and heartbeats are the server's matter.
        config.set("group.protocol", "consumer");
    } else {
        let cooperative = args[2] == "cooperative";
        let assignor = if cooperative { "cooperative-sticky" } else { "range" };
        config.set("partition.assignment.strategy", assignor);
        config.set("session.timeout.ms", &args[3]);
        config.set("heartbeat.interval.ms", "500");
    }
    if let Some(instance) = args.get(4) {
        config.set("group.instance.id", instance);
    }
    let topic = &args[0];
    let consumer: BaseConsumer<Context> = config
        .create_with_context(Context::default())
        .expect("consumer");
    consumer.subscribe(&[topic]).expect("subscribe");

    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            sender.send(line.unwrap()).unwrap();
        }
        let _ = sender.send("close".into());
    });
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let m = message.expect("message");
            let value = String::from_utf8_lossy(m.payload().unwrap_or_default());
            println!("record {} {} {}", m.partition(), m.offset(), value);
        }
        let Ok(command) = commands.try_recv() else {
            continue;
        };
        let words: Vec<&str> = command.split(' ').collect();
        let mut list = TopicPartitionList::new();
        if words.len() > 1 {
            list.add_partition(topic, words[1].parse().unwrap());
        }
        match words[0] {
            "commit" => commit(&consumer),
            "pause" => consumer.pause(&list).expect("pause"),
            "resume" => consumer.resume(&list).expect("resume"),
            "seek" => {
                let offset = Offset::Offset(words[2].parse().unwrap());
                list.set_all_offsets(offset).expect("offset");
                consumer
                    .seek_partitions(list, Duration::from_secs(60))
                    .expect("seek");
            }
            _ => {
                // What the crate polls while it closes it throws away: that is not to be committed.
                commit(&consumer);
                consumer.context().closing.store(true, Ordering::SeqCst);
                drop(consumer);
                println!("ok");
                return;
            }
        }
        println!("ok");
    }
}
