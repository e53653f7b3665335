"""Just enough of the Kafka protocol to see that a server answers: ApiVersions 0 and Metadata 1."""
import socket
import struct

API_VERSIONS, METADATA = 18, 3


class Reader:
  """An answer, taken apart from its beginning."""

  def __init__(self, data):
    self.data = data
    self.at = 0

  def number(self, form):
    value, = struct.unpack_from('>' + form, self.data, self.at)
    self.at += struct.calcsize(form)
    return value

  def string(self):
    length = self.number('h')
    self.at += max(length, 0)


def ask(connection, api, version, body):
  header = struct.pack('>hhih5s', api, version, 1, 5, b'bench')
  connection.sendall(struct.pack('>i', len(header) + len(body)) + header + body)
  data = b''
  while len(data) < 4 or len(data) < 4 + struct.unpack('>i', data[:4])[0]:
    more = connection.recv(65536)
    if not more:
      raise ConnectionError('closed by the server')
    data += more
  reader = Reader(data)
  reader.number('i')
  reader.number('i')
  return reader


def has_leaders(port, topic):
  """Does the server on this port answer, and say who leads each partition of the topic?"""
  try:
    with socket.create_connection(('127.0.0.1', port), timeout=30) as connection:
      if ask(connection, API_VERSIONS, 0, b'').number('h') != 0:
        return False
      name = topic.encode()
      answer = ask(connection, METADATA, 1, struct.pack('>ih', 1, len(name)) + name)
  except OSError:
    return False
  for _ in range(answer.number('i')):   # brokers
    answer.number('i')
    answer.string()
    answer.number('i')
    answer.string()
  answer.number('i')
  if answer.number('i') != 1 or answer.number('h') != 0:
    return False
  answer.string()
  answer.number('b')
  partitions = answer.number('i')
  for _ in range(partitions):
    if answer.number('h') != 0:
      return False
    answer.number('i')
    if answer.number('i') < 0:
      return False
    for _ in range(2):
      for _ in range(answer.number('i')):
        answer.number('i')
  return partitions > 0
