-- Keys, values and headers as text and JSON: no bytes make these fail
SELECT kafka.to_text('hello'), kafka.to_text(''), kafka.to_text(NULL);
SELECT kafka.to_text('\xc3a4'), kafka.to_text('\xffc3a4c3'), kafka.to_text('\x610062');
SELECT kafka.to_text('\xf09f9880'), kafka.to_text('\xf09f98'), kafka.to_text('\xeda080');

SELECT kafka.to_jsonb('{"a": [1, 2.50, "x", null, true]}'), kafka.to_jsonb('"text"'),
       kafka.to_jsonb(' 7 '), kafka.to_jsonb('null');
SELECT kafka.to_jsonb('') IS NULL, kafka.to_jsonb('{') IS NULL, kafka.to_jsonb('{}x') IS NULL,
       kafka.to_jsonb('\xff') IS NULL, kafka.to_jsonb('\x7b00') IS NULL, kafka.to_jsonb(NULL) IS NULL;
SELECT kafka.to_jsonb(kafka.to_bytea('"\u0000"')) IS NULL AS nul,
       kafka.to_jsonb(kafka.to_bytea('{"\u0000": 1}')) IS NULL AS nul_key,
       kafka.to_jsonb(kafka.to_bytea('"\ud800"')) IS NULL AS half_a_pair,
       kafka.to_jsonb(kafka.to_bytea('"\u00e4 \ud83d\ude00"')) AS good;
SELECT kafka.to_jsonb('1e1000000') IS NULL, kafka.to_jsonb('1e-1000000') IS NULL,
       kafka.to_jsonb('1e99999999999999999999') IS NULL, kafka.to_jsonb('-1.5e3'),
       length(kafka.to_jsonb('1e1000')::text);
SELECT kafka.to_jsonb(repeat('[', 1000000)::bytea) IS NULL,
       kafka.to_jsonb((repeat('[', 1001) || repeat(']', 1001))::bytea) IS NULL,
       kafka.to_jsonb((repeat('[', 1000) || repeat(']', 1000))::bytea) IS NOT NULL,
       kafka.to_jsonb(kafka.to_bytea('"' || repeat('[', 2000) || '\"["')) IS NOT NULL;
SELECT kafka.to_jsonb('\x00'::bytea || repeat('x', 30000000)::bytea) IS NULL AS zero_byte;

SELECT kafka.to_bytea('ä\x'), kafka.to_bytea('{"a":  1}'::json), kafka.to_bytea('{"a":  1}'::jsonb);
SELECT kafka.to_text(kafka.to_bytea(to_jsonb(r))) FROM (VALUES (1, 'one')) r(id, name);

SELECT kafka.header('k', 'v'), kafka.header('k', NULL), kafka.header('k', '\x00ff');
SELECT (kafka.header('k', 'v')).key, (kafka.header('k', 'v')).value;
WITH h AS (SELECT ARRAY[kafka.header('a', '1'), kafka.header('b', '\xff'), kafka.header('a', '2'),
                        kafka.header('n', NULL), NULL] AS headers)
SELECT kafka.header_value(headers, 'a') AS a, kafka.header_text(headers, 'a') AS a_text,
       kafka.header_text(headers, 'b') AS b, kafka.header_value(headers, 'n') AS n,
       kafka.header_value(headers, 'x') AS x
  FROM h;
SELECT kafka.header_value('{}', 'a') AS empty, kafka.header_value(NULL, 'a') AS none;
