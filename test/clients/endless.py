#!/usr/bin/python3
"""endless.py produce|consume TOPIC: a client that goes on whatever the broker does, until killed."""
import os
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

mode, topic = sys.argv[1:]
common = {
    "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"],
    "reconnect.backoff.max.ms": 500,
    "topic.metadata.refresh.interval.ms": 1000,
    "log_level": 0,
}

if mode == "produce":
    producer = Producer({**common, "message.timeout.ms": 2000, "linger.ms": 5})
    number = 0
    while True:
        try:
            producer.produce(topic, f"record {number}".encode(), key=str(number).encode())
            number += 1
        except (BufferError, KafkaException):
            pass
        producer.poll(0)
        time.sleep(0.002)
else:
    consumer = Consumer({**common, "group.id": "endless", "enable.auto.commit": False,
                         "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(4)])
    while True:
        consumer.poll(0.5)
