//! rdkafka's producer, consumer (with assign) and admin client.

mod member;
mod workload;

use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use workload::{Record, Report, BIG_CODECS, CODECS, RECORDS};

const TOPIC: &str = "rust-records";
const BIG: &str = "rust-big";
const AUTO: &str = "rust-auto";
const GAPS: &str = "rust-gaps";
const TIMEOUT: Duration = Duration::from_secs(60);

fn config(pairs: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set(
        "bootstrap.servers",
        std::env::var("KAFKA_BOOTSTRAP").expect("KAFKA_BOOTSTRAP"),
    );
    for (name, value) in pairs {
        config.set(*name, *value);
    }
    config
}

/// The offsets that were acknowledged.
fn produce(topic: &str, partition: i32, records: &[Record], pairs: &[(&str, &str)]) -> Vec<i64> {
    let producer: FutureProducer = config(pairs).create().expect("producer");
    let futures: Vec<_> = records
        .iter()
        .map(|r| {
            let mut message: FutureRecord<[u8], [u8]> = FutureRecord::to(topic)
                .partition(partition)
                .timestamp(r.timestamp.unwrap());
            message.key = r.key.as_deref();
            message.payload = r.value.as_deref();
            let mut headers = OwnedHeaders::new();
            for (key, value) in &r.headers {
                headers = headers.insert(Header {
                    key,
                    value: value.as_deref(),
                });
            }
            producer
                .send_result(message.headers(headers))
                .map_err(|(e, _)| e)
                .expect("send")
        })
        .collect();
    futures
        .into_iter()
        .map(|f| {
            block_on(f)
                .expect("delivery")
                .map_err(|(e, _)| e)
                .expect("delivered")
                .offset
        })
        .collect()
}

fn consumer() -> BaseConsumer {
    config(&[
        ("group.id", "unused"),
        ("enable.auto.commit", "false"),
        ("fetch.wait.max.ms", "100"),
    ])
    .create()
    .expect("consumer")
}

fn assign(c: &BaseConsumer, topic: &str, partition: i32, from: Offset) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, from)
        .expect("partition");
    c.assign(&list).expect("assign");
}

fn poll(c: &BaseConsumer, count: usize, wait: Duration) -> Vec<Record> {
    let end = Instant::now() + wait;
    let mut records = vec![];
    while records.len() < count && Instant::now() < end {
        if let Some(m) = c.poll(Duration::from_millis(200)) {
            let m = m.expect("message");
            records.push(Record {
                offset: m.offset(),
                key: m.key().map(|b| b.to_vec()),
                value: m.payload().map(|b| b.to_vec()),
                headers: m.headers().map_or(vec![], |h| {
                    h.iter()
                        .map(|h| (h.key.to_string(), h.value.map(|b| b.to_vec())))
                        .collect()
                }),
                timestamp: m.timestamp().to_millis(),
            });
        }
    }
    records
}

fn read(c: &BaseConsumer, topic: &str, partition: i32, from: Offset, count: i64) -> Vec<Record> {
    assign(c, topic, partition, from);
    poll(c, count as usize, TIMEOUT)
}

/// Offsets of a timestamp in every partition of the records.
fn offsets_of(c: &BaseConsumer, timestamp: i64) -> Vec<Offset> {
    let mut list = TopicPartitionList::new();
    for p in 0..CODECS.len() as i32 {
        list.add_partition_offset(TOPIC, p, Offset::Offset(timestamp))
            .expect("partition");
    }
    c.offsets_for_times(list, TIMEOUT)
        .expect("offsets")
        .elements()
        .iter()
        .map(|e| e.offset())
        .collect()
}

fn topics(c: &BaseConsumer) -> Vec<(String, usize)> {
    let metadata = c.fetch_metadata(None, TIMEOUT).expect("metadata");
    metadata
        .topics()
        .iter()
        .map(|t| (t.name().to_string(), t.partitions().len()))
        .collect()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "member") {
        return member::run(&args[1..]);
    }
    let mut report = Report::default();
    let admin: AdminClient<DefaultClientContext> = config(&[]).create().expect("admin client");
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let c = consumer();

    let new = [
        NewTopic::new(TOPIC, CODECS.len() as i32, TopicReplication::Fixed(1)),
        NewTopic::new(BIG, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "10485760"),
    ];
    for result in block_on(admin.create_topics(&new, &options)).expect("create topics") {
        result.expect("a new topic");
    }
    let there = topics(&c);
    let has = |name: &str, n| there.contains(&(name.to_string(), n));
    report.ok(has(TOPIC, 5) && has(BIG, 1), "create topics");
    let again = block_on(admin.create_topics(&new[1..], &options)).expect("create topics");
    report.same(
        again[0].clone().unwrap_err().1,
        RDKafkaErrorCode::TopicAlreadyExists,
        "create a topic twice",
    );
    let configs = block_on(admin.describe_configs(&[ResourceSpecifier::Topic(BIG)], &options))
        .expect("configs");
    let configs = configs[0].as_ref().expect("configs");
    report.same(
        configs
            .get("max.message.bytes")
            .and_then(|e| e.value.clone()),
        Some("10485760".to_string()),
        "describe a topic's configs",
    );

    for (p, codec) in CODECS.iter().enumerate() {
        let pairs = [
            ("compression.type", *codec),
            ("enable.idempotence", "true"),
            ("linger.ms", "20"),
        ];
        let acked = produce(TOPIC, p as i32, &workload::wanted(0), &pairs);
        report.same(
            acked,
            (0..RECORDS).collect(),
            &format!("produce with {codec}"),
        );
    }
    for (i, record) in workload::wanted_big().into_iter().enumerate() {
        let pairs = [
            ("compression.type", CODECS[BIG_CODECS[i]]),
            ("message.max.bytes", "10000000"),
        ];
        produce(BIG, 0, &[record], &pairs);
    }

    for (p, codec) in CODECS.iter().enumerate() {
        let got = read(&c, TOPIC, p as i32, Offset::Beginning, RECORDS);
        report.same_records(
            &got,
            &workload::wanted(0),
            &format!("consume from the beginning, {codec}"),
        );
    }
    let wanted = workload::wanted_big();
    let got = read(&c, BIG, 0, Offset::Beginning, wanted.len() as i64);
    report.same_records(&got, &wanted, "values up to 5 MB");
    let got = read(&c, TOPIC, 3, Offset::Offset(100), RECORDS - 100);
    report.same_records(&got, &workload::wanted(100), "consume from an offset");
    let got = read(&c, TOPIC, 3, Offset::OffsetTail(3), 3);
    report.same_records(
        &got,
        &workload::wanted(RECORDS - 3),
        "consume the last three",
    );
    report.same(
        offsets_of(&c, workload::timestamp(50) - 500),
        vec![Offset::Offset(50); 5],
        "offsets of a timestamp",
    );
    report.same(
        offsets_of(&c, workload::timestamp(RECORDS)),
        vec![Offset::End; 5],
        "no offset after the last timestamp",
    );
    let marks = c.fetch_watermarks(TOPIC, 2, TIMEOUT).expect("watermarks");
    report.same(marks, (0, RECORDS), "first and last offset");

    let (mut first, mut second) = (workload::record(2), workload::record(3));
    (first.offset, second.offset) = (0, 1);
    let (first, second) = ([first], [second]);
    produce(AUTO, 0, &first, &[("acks", "1")]);
    report.same_records(
        &read(&c, AUTO, 0, Offset::Beginning, 1),
        &first,
        "a topic that was created on its own",
    );
    assign(&c, AUTO, 0, Offset::End);
    report.same(
        poll(&c, 1, Duration::from_secs(1)).len(),
        0,
        "consume from the end: nothing yet",
    );
    produce(AUTO, 0, &second, &[("acks", "1")]);
    report.same_records(&poll(&c, 1, TIMEOUT), &second, "consume from the end");

    let offsets = |records: Vec<Record>| records.iter().map(|r| r.offset).collect::<Vec<_>>();
    report.same(
        offsets(read(&c, GAPS, 0, Offset::Beginning, 4)),
        vec![0, 1, 102, 103],
        "step over gaps",
    );
    report.same(
        produce(GAPS, 0, &second, &[]),
        vec![204],
        "write after a gap",
    );
    report.same(
        offsets(poll(&c, 1, TIMEOUT)),
        vec![204],
        "read on after a gap",
    );
    report.same(
        offsets(read(&c, GAPS, 0, Offset::Offset(50), 3)),
        vec![102, 103, 204],
        "start in a gap",
    );

    let deleted = block_on(admin.delete_topics(&[AUTO], &options)).expect("delete topics");
    deleted[0].as_ref().expect("deleted");
    let there = topics(&consumer());
    report.ok(there.iter().all(|t| t.0 != AUTO), "delete a topic");
    let again = block_on(admin.delete_topics(&[AUTO], &options)).expect("delete topics");
    report.same(
        again[0].clone().unwrap_err().1,
        RDKafkaErrorCode::UnknownTopicOrPartition,
        "delete a topic twice",
    );
    std::process::exit(report.failed as i32);
}
