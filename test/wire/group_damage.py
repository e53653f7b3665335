"""A group whose rows are damaged is refused at a start; one of the same name begins without them."""
from kmember import Member, sql, until
from ktap import main, ok, same
from kwire import Client

GROUP = 'damaged'


def rows():
    """The ids of members that have a row, and the number of other rows."""
    ids = sql("SELECT convert_from(member_id, 'UTF8') FROM kafka.group_state WHERE group_id = %s",
              GROUP)
    return [i[0] for i in ids if i[0]], len([i for i in ids if not i[0]])


def damage():
    m = Member(Client(), GROUP)
    ok(m.enter(), 'a group')
    same(rows(), ([m.id], 1), 'has rows')
    sql("UPDATE kafka.group_state SET data = '\\x00' WHERE group_id = %s AND member_id <> ''",
        GROUP)


def begin_anew():
    m = Member(Client(), GROUP)
    ok(until(m.enter), 'another member')
    same(rows(), ([m.id], 1), 'has only rows of its own')


def go_on():
    ids, _ = rows()
    m = Member(Client(), GROUP)
    m.id, m.generation = ids[0], 1
    ok(until(lambda: m.heartbeat() == 'NONE'), 'it is there after the next start')


if __name__ == '__main__':
    main(damage, begin_anew, go_on)
