"""What a run has found: medians, spreads, ratios, and goals, as a table and for JSON."""
import statistics

DURABILITY = {
  'heap': 'fsync; heap table, no index',
  'heap-pk': 'fsync; heap table with primary key',
  'alone': 'fsync',
  'kafka_pg-half': 'fsync, group commit',
}
# Measured in most turns, whatever the cell.
ALWAYS = ('broker_cpu_us_per_record', 'written_per_byte', 'device_per_byte', 'resident_mb',
          'private_mb', 'client_cpu_s')


def number(value):
  if value >= 1e6:
    return '%.2fM' % (value / 1e6)
  if value >= 1e4:
    return '%.0fk' % (value / 1e3)
  return '%.0f' % value if value >= 100 else '%.3g' % value


def summarize_system(cell, rounds):
  """Medians of one system in one cell, and the spread of the result."""
  values = [r[cell.result] for r in rounds]
  row = {'median': statistics.median(values), 'least': min(values), 'greatest': max(values)}
  fields = {field for r in rounds for field in r if isinstance(r[field], (int, float))}
  for field in sorted(fields - {'errors'}):
    row[field] = statistics.median(r[field] for r in rounds if field in r)
  return row


def summarize(cell, rounds, durability):
  """All systems of a cell; rounds has a list of turns for each."""
  rows = {system: summarize_system(cell, rounds[system]) for system in rounds}
  for system, row in rows.items():
    row['durability'] = DURABILITY.get(system) or durability[system]
    row['unit'] = cell.unit
    # More than 1 is better than the other, whatever the unit.
    row['ratios'] = {}
    for base in cell.bases:
      if base in rows and base != system and rows[base]['median'] > 0 and row['median'] > 0:
        ratio = row['median'] / rows[base]['median']
        row['ratios'][base] = 1 / ratio if cell.better == 'less' else ratio
  if 'kafka_pg' in rows:
    rows['kafka_pg']['goals'] = [judge(goal, cell, rows) for goal in cell.goals
                                 if goal.base is None or goal.base in rows]
  return rows


def judge(goal, cell, rows):
  found = rows['kafka_pg'][goal.field]
  if goal.base:
    base = rows[goal.base][goal.field]
    found = found / base if base > 0 else float('inf')
  met = found >= goal.bound if goal.op == '>=' else found <= goal.bound
  text = '%s%s %s' % ('' if goal.field == cell.result else goal.field.replace('_us', '') + ' ',
                      goal.op, number(goal.bound))
  if goal.base:
    text += ' x %s' % goal.base
  if goal.wanted:
    text += ' (wanted)'
  return {'goal': text, 'found': found, 'met': met, 'wanted': goal.wanted}


def table(cells, results):
  lines = [['cell', 'system', 'result', 'spread', 'ratio', 'goal', 'also', 'CPU us/rec',
            'written/byte', 'disk/byte', 'MB', 'private', 'durability']]
  for name, rows in results.items():
    cell = cells[name]
    for system, row in rows.items():
      goals = ['%s: %s %s' % (goal['goal'], number(goal['found']), 'met' if goal['met'] else 'MISSED')
               for goal in row.get('goals', ())]
      lines.append([
        name, system, '%s %s' % (number(row['median']), cell.unit),
        '%s-%s' % (number(row['least']), number(row['greatest'])),
        ', '.join('%.2f %s' % (ratio, base) for base, ratio in row['ratios'].items()) or '-',
        '; '.join(goals) or '-',
        ' '.join('%s=%s' % (field.replace('ack_', '').replace('_us', ''), number(row[field]))
                 for field in cell.more if field in row),
        *('%.2f' % row[field] if field in row else '-' for field in ALWAYS[:3]),
        *('%.0f' % row[field] if field in row else '-' for field in ALWAYS[3:5]),
        row['durability']])
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  for line in lines:
    print('  '.join(text.ljust(width) for text, width in zip(line, widths)).rstrip())
  goals = [goal for rows in results.values() for row in rows.values()
           for goal in row.get('goals', ())]
  for wanted in False, True:
    some = [goal for goal in goals if goal['wanted'] == wanted]
    if some:
      print('%s: %d of %d met' % ('wanted' if wanted else 'goals',
                                  sum(goal['met'] for goal in some), len(some)))
