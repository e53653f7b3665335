/*
 * kmsg.c
 *		The walker: initialises, decodes and encodes any message in any version by its
 *		descriptor.
 *
 * What is decoded comes from strangers.  Nothing is read before it was compared with the bytes
 * that remain, and an array's count is compared with them before memory is taken for it, so
 * that a frame can not ask for more than a fixed multiple of its own length.  Recursion follows
 * the descriptors, which the generator has checked to be trees, never the input.
 */
#include <string.h>

#include "wire/kmsg.h"

/* Kafka's limit for any string, whatever its length field could express. */
#define MAX_STRING	INT16_MAX

/* Bytes of a value in memory and on the wire; 0 on the wire: it has a length of its own. */
static const struct
{
	uint8_t		memory;
	uint8_t		wire;
}	type_size[] = {
	[KF_BOOL] = {sizeof(bool), 1},
	[KF_INT8] = {sizeof(int8_t), 1},
	[KF_INT16] = {sizeof(int16_t), 2},
	[KF_UINT16] = {sizeof(uint16_t), 2},
	[KF_INT32] = {sizeof(int32_t), 4},
	[KF_INT64] = {sizeof(int64_t), 8},
	[KF_FLOAT64] = {sizeof(double), 8},
	[KF_UUID] = {sizeof(KUuid), 16},
	[KF_STRING] = {sizeof(KStr), 0},
	[KF_BYTES] = {sizeof(KBytes), 0},
};

/* What every array member looks like; moved by memcpy because the item types differ. */
typedef struct AnyArray
{
	void	   *items;
	int32_t		count;
} AnyArray;

static inline bool
in_versions(KVersions v, int version)
{
	return version >= v.first && version <= v.last;
}

static inline size_t
item_size(const KFieldDesc *f)
{
	return f->type == KF_STRUCT ? f->sub->size : type_size[f->type].memory;
}

/* An array's items are never null, whether or not the array can be. */
static inline bool
value_nullable(const KFieldDesc *f, int version)
{
	return !(f->flags & KFF_ARRAY) && in_versions(f->nullable, version);
}

static inline AnyArray
array_load(const void *member)
{
	AnyArray	a;

	memcpy(&a, member, sizeof(a));
	return a;
}

void
kmsg_init(const KMsgDesc *desc, void *msg)
{
	memcpy(msg, desc->defaults, desc->size);
}

void *
kmsg_new(const KMsgDesc *desc, int32_t count, KArena *arena)
{
	char	   *items = count >= 0 ? karena_alloc(arena, (size_t) count * desc->size) : NULL;

	for (int32_t i = 0; items && i < count; i++)
		kmsg_init(desc, items + (size_t) i * desc->size);
	return items;
}

/* ------------------------------------------------------------------------
 * Decoding
 * ------------------------------------------------------------------------
 */
typedef struct Decoder
{
	const uint8_t *next;
	const uint8_t *end;
	KArena	   *arena;
	const char *err;
	int			version;
	bool		flexible;
} Decoder;

static bool decode_struct(Decoder *d, const KMsgDesc *desc, void *msg);

static bool
decode_fail(Decoder *d, const char *why)
{
	d->err = why;
	return false;
}

static inline size_t
remaining(const Decoder *d)
{
	return (size_t) (d->end - d->next);
}

static inline uint64_t
big_endian(const uint8_t *p, int n)
{
	uint64_t	v = 0;

	for (int i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

/* Five bytes at most; as in Kafka, what they hold beyond 32 bits is dropped. */
static bool
decode_varint(Decoder *d, uint32_t *value)
{
	uint64_t	v = 0;

	for (int shift = 0; shift < 35; shift += 7)
	{
		uint8_t		byte;

		if (d->next == d->end)
			return decode_fail(d, "message ends inside a number");
		byte = *d->next++;
		v |= (uint64_t) (byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
		{
			*value = (uint32_t) v;
			return true;
		}
	}
	return decode_fail(d, "number of more than five bytes");
}

/*
 * A length in units of at least "unit" bytes each, -1 for null: "width" bytes, or one more than
 * it as a varint.  It is in bounds: so many units can still be there.  Null is any negative
 * length.
 */
static bool
decode_length(Decoder *d, const KFieldDesc *f, bool nullable, int width, size_t unit,
			  int32_t *length)
{
	uint64_t	n;

	if (d->flexible && !(f->flags & KFF_PLAIN))
	{
		uint32_t	v;

		if (!decode_varint(d, &v))
			return false;
		*length = -1;
		if (v - 1 > INT32_MAX)
			goto null;
		n = v - 1;
	}
	else
	{
		if (remaining(d) < (size_t) width)
			return decode_fail(d, "message ends inside a length");
		n = big_endian(d->next, width);
		d->next += width;
		*length = -1;
		if (n >> (width * 8 - 1))
			goto null;
	}
	if (n > remaining(d) / unit)
		return decode_fail(d, "length goes beyond the end of the message");
	*length = (int32_t) n;
	return true;

null:
	if (!nullable)
		return decode_fail(d, "null in a field that can not be null");
	return true;
}

/* One value, or one item of an array. */
static bool
decode_value(Decoder *d, const KFieldDesc *f, void *value)
{
	size_t		size;
	uint64_t	bits;
	int32_t		len;

	switch ((KFieldType) f->type)
	{
		case KF_STRING:
			if (!decode_length(d, f, value_nullable(f, d->version), 2, 1, &len))
				return false;
			if (len > MAX_STRING)
				return decode_fail(d, "string of more than 32767 bytes");
			*(KStr *) value = (KStr) {len < 0 ? NULL : (const char *) d->next, len};
			d->next += len > 0 ? len : 0;
			return true;
		case KF_BYTES:
			if (!decode_length(d, f, value_nullable(f, d->version), 4, 1, &len))
				return false;
			*(KBytes *) value = (KBytes) {len < 0 ? NULL : d->next, len};
			d->next += len > 0 ? len : 0;
			return true;
		case KF_STRUCT:
			return decode_struct(d, f->sub, value);
		default:
			break;
	}

	size = type_size[f->type].wire;
	if (remaining(d) < size)
		return decode_fail(d, "message ends inside a field");
	if (f->type == KF_UUID)
		memcpy(value, d->next, size);
	else
	{
		bits = big_endian(d->next, (int) size);
		switch ((KFieldType) f->type)
		{
			case KF_BOOL:
				*(bool *) value = bits != 0;
				break;
			case KF_INT8:
				*(int8_t *) value = (int8_t) bits;
				break;
			case KF_INT16:
				*(int16_t *) value = (int16_t) bits;
				break;
			case KF_UINT16:
				*(uint16_t *) value = (uint16_t) bits;
				break;
			case KF_INT32:
				*(int32_t *) value = (int32_t) bits;
				break;
			default:			/* KF_INT64, KF_FLOAT64 */
				memcpy(value, &bits, sizeof(bits));
				break;
		}
	}
	d->next += size;
	return true;
}

static bool
decode_array(Decoder *d, const KFieldDesc *f, void *member)
{
	AnyArray	a = {NULL, 0};
	size_t		least = 1;
	size_t		step = item_size(f);

	if (f->type == KF_STRUCT)
		least = f->sub->min_size[d->version - f->sub->versions.first];
	else if (type_size[f->type].wire > 0)
		least = type_size[f->type].wire;
	/* even items without a byte on the wire are charged, or a count would be free */
	if (!decode_length(d, f, in_versions(f->nullable, d->version), 4, least > 0 ? least : 1,
					   &a.count))
		return false;

	if (a.count > 0)
	{
		a.items = d->arena ? karena_alloc(d->arena, (size_t) a.count * step) : NULL;
		if (a.items == NULL)
			return decode_fail(d, "message needs more memory than is allowed");
		for (int32_t i = 0; i < a.count; i++)
			if (!decode_value(d, f, (char *) a.items + (size_t) i * step))
				return false;
	}
	memcpy(member, &a, sizeof(a));
	return true;
}

static bool
decode_pointer(Decoder *d, const KFieldDesc *f, void *member)
{
	void	   *target;

	if (remaining(d) < 1)
		return decode_fail(d, "message ends inside a field");
	if (*d->next++ >= 0x80)		/* a negative byte: null, as the default is */
		return true;
	target = d->arena ? karena_alloc(d->arena, f->sub->size) : NULL;
	if (target == NULL)
		return decode_fail(d, "message needs more memory than is allowed");
	memcpy(member, &target, sizeof(target));
	return decode_struct(d, f->sub, target);
}

static bool
decode_field(Decoder *d, const KFieldDesc *f, void *msg)
{
	char	   *member = (char *) msg + f->offset;

	if (f->flags & KFF_ARRAY)
		return decode_array(d, f, member);
	if (f->flags & KFF_POINTER)
		return decode_pointer(d, f, member);
	return decode_value(d, f, member);
}

/*
 * As Kafka's classes do, takes tags in any order, the last of those that are there twice, and a
 * negative count for none.
 */
static bool
decode_tags(Decoder *d, const KMsgDesc *desc, void *msg)
{
	KTags	   *unknown = (KTags *) ((char *) msg + desc->tags_offset);
	uint32_t	known = desc->nfields - desc->nuntagged;
	uint32_t	count;

	if (!decode_varint(d, &count))
		return false;
	if (count > INT32_MAX)
		count = 0;
	/* a tag and a size are two bytes */
	if (count > remaining(d) / 2)
		return decode_fail(d, "more tagged fields than the message can hold");
	for (; count > 0; count--)
	{
		const uint8_t *start = d->next;
		uint32_t	tag;
		uint32_t	size;

		if (!decode_varint(d, &tag) || !decode_varint(d, &size))
			return false;
		if (size > remaining(d))
			return decode_fail(d, "tagged field goes beyond the end of the message");
		if (tag < known)
		{
			const KFieldDesc *f = &desc->fields[desc->nuntagged + tag];
			const uint8_t *end = d->end;

			if (!in_versions(f->versions, d->version))
				return decode_fail(d, "tagged field does not exist in this version");
			d->end = d->next + size;
			if (!decode_field(d, f, msg))
				return false;
			if (d->next != d->end)
				return decode_fail(d, "tagged field is shorter than its size");
			d->end = end;
		}
		else
		{
			d->next += size;
			if (unknown->count == 0)
				unknown->data = start;
			else if (start != unknown->data + unknown->len)
				continue;
			if (d->next - unknown->data > (ptrdiff_t) INT32_MAX)
				return decode_fail(d, "unknown tagged fields are too long");
			unknown->count++;
			unknown->len = (uint32_t) (d->next - unknown->data);
		}
	}
	return true;
}

static bool
decode_struct(Decoder *d, const KMsgDesc *desc, void *msg)
{
	kmsg_init(desc, msg);
	for (int i = 0; i < desc->nuntagged; i++)
	{
		const KFieldDesc *f = &desc->fields[i];

		if (in_versions(f->versions, d->version) && !decode_field(d, f, msg))
			return false;
	}
	return !d->flexible || decode_tags(d, desc, msg);
}

bool
kmsg_decode(const KMsgDesc *desc, int version, const uint8_t *in, size_t len,
			size_t *consumed, KArena *arena, void *msg, const char **err)
{
	const uint8_t *end = len > 0 ? in + len : in;
	Decoder		d = {in, end, arena, NULL, version, version >= desc->flexible_from};
	bool		ok;

	if (in_versions(desc->versions, version))
		ok = decode_struct(&d, desc, msg);
	else
		ok = decode_fail(&d, "unknown version");
	*err = d.err;
	*consumed = ok ? (size_t) (d.next - in) : 0;
	return ok;
}

/* ------------------------------------------------------------------------
 * Encoding
 * ------------------------------------------------------------------------
 */
typedef struct Encoder
{
	KMsgWriter *w;				/* NULL: only count */
	size_t		total;			/* bytes so far, references included */
	const char *err;
	const char *field;
	int			version;
	bool		flexible;
} Encoder;

static bool encode_struct(Encoder *e, const KMsgDesc *desc, const void *msg);

static bool
encode_fail(Encoder *e, const KFieldDesc *f, const char *why)
{
	e->err = why;
	e->field = f ? f->name : NULL;
	return false;
}

static bool
put(Encoder *e, const void *data, size_t len)
{
	e->total += len;
	if (e->w && !kmsg_writer_put(e->w, data, len))
		return encode_fail(e, NULL, "no memory for the message");
	return true;
}

static bool
put_number(Encoder *e, uint64_t value, int width)
{
	uint8_t		buf[8];

	for (int i = width - 1; i >= 0; i--, value >>= 8)
		buf[i] = (uint8_t) value;
	return put(e, buf, (size_t) width);
}

static bool
put_varint(Encoder *e, uint32_t value)
{
	uint8_t		buf[5];
	size_t		n = 0;

	for (; value >= 0x80; value >>= 7)
		buf[n++] = (uint8_t) (value | 0x80);
	buf[n++] = (uint8_t) value;
	return put(e, buf, n);
}

static bool
put_length(Encoder *e, const KFieldDesc *f, bool nullable, int width, int32_t length)
{
	if (length < 0)
	{
		if (!nullable)
			return encode_fail(e, f, "null in a field that can not be null in this version");
		length = -1;
	}
	if (e->flexible && !(f->flags & KFF_PLAIN))
		return put_varint(e, (uint32_t) length + 1);
	return put_number(e, (uint64_t) (int64_t) length, width);
}

static bool
encode_bytes(Encoder *e, const KFieldDesc *f, const KBytes *value)
{
	if (!put_length(e, f, value_nullable(f, e->version), 4, value->len))
		return false;
	if (value->len <= 0)
		return true;
	if (e->w == NULL || e->w->ref_min == 0 || (size_t) value->len < e->w->ref_min)
		return put(e, value->data, (size_t) value->len);
	e->total += (size_t) value->len;
	if (!kmsg_writer_refer(e->w, value->data, (size_t) value->len))
		return encode_fail(e, NULL, "no memory for the message");
	return true;
}

static bool
encode_value(Encoder *e, const KFieldDesc *f, const void *value)
{
	uint64_t	bits;

	switch ((KFieldType) f->type)
	{
		case KF_BOOL:
			return put_number(e, *(const bool *) value, 1);
		case KF_INT8:
			return put_number(e, (uint8_t) *(const int8_t *) value, 1);
		case KF_INT16:
		case KF_UINT16:
			return put_number(e, *(const uint16_t *) value, 2);
		case KF_INT32:
			return put_number(e, *(const uint32_t *) value, 4);
		case KF_INT64:
		case KF_FLOAT64:
			memcpy(&bits, value, sizeof(bits));
			return put_number(e, bits, 8);
		case KF_UUID:
			return put(e, value, sizeof(KUuid));
		case KF_STRING:
			{
				const KStr *s = value;

				if (s->len > MAX_STRING)
					return encode_fail(e, f, "string of more than 32767 bytes");
				return put_length(e, f, value_nullable(f, e->version), 2, s->len) &&
					(s->len <= 0 || put(e, s->data, (size_t) s->len));
			}
		case KF_BYTES:
			return encode_bytes(e, f, value);
		case KF_STRUCT:
			break;
	}
	return encode_struct(e, f->sub, value);
}

static bool
encode_field(Encoder *e, const KFieldDesc *f, const void *msg)
{
	const char *member = (const char *) msg + f->offset;

	if (f->flags & KFF_ARRAY)
	{
		AnyArray	a = array_load(member);
		size_t		step = item_size(f);

		if (!put_length(e, f, in_versions(f->nullable, e->version), 4, a.count))
			return false;
		for (int32_t i = 0; i < a.count; i++)
			if (!encode_value(e, f, (const char *) a.items + (size_t) i * step))
				return false;
		return true;
	}
	if (f->flags & KFF_POINTER)
	{
		const void *target;

		memcpy(&target, member, sizeof(target));
		if (target == NULL)
			return put_number(e, 0xff, 1);
		return put_number(e, 1, 1) && encode_struct(e, f->sub, target);
	}
	return encode_value(e, f, member);
}

/*
 * Does the field hold its default?  Strings, bytes and arrays have only two possible ones, null
 * and empty, so their lengths tell.
 */
static bool
is_default(const KMsgDesc *desc, const KFieldDesc *f, const void *msg)
{
	const char *member = (const char *) msg + f->offset;
	const char *def = (const char *) desc->defaults + f->offset;

	if (f->flags & KFF_ARRAY)
		return array_load(member).count == array_load(def).count;
	if (f->flags & KFF_POINTER)
		return memcmp(member, def, sizeof(void *)) == 0;
	if (f->type == KF_STRING)
		return ((const KStr *) member)->len == ((const KStr *) def)->len;
	if (f->type == KF_BYTES)
		return ((const KBytes *) member)->len == ((const KBytes *) def)->len;
	if (f->type != KF_STRUCT)
		return memcmp(member, def, type_size[f->type].memory) == 0;
	for (int i = 0; i < f->sub->nfields; i++)
		if (!is_default(f->sub, &f->sub->fields[i], member))
			return false;
	return ((const KTags *) (member + f->sub->tags_offset))->count == 0;
}

/* Is there something to write?  *ok becomes false if it can not be left out but must be. */
static bool
is_written(Encoder *e, const KMsgDesc *desc, const KFieldDesc *f, const void *msg, bool *ok)
{
	if (in_versions(f->versions, e->version))
		return f->tag < 0 || !is_default(desc, f, msg);
	if (!(f->flags & KFF_IGNORABLE) && !is_default(desc, f, msg))
		*ok = encode_fail(e, f, "field has a value that this version can not express");
	return false;
}

static bool
encode_tagged_field(Encoder *e, const KFieldDesc *f, const void *msg)
{
	Encoder		count = {NULL, 0, NULL, NULL, e->version, e->flexible};

	if (!encode_field(&count, f, msg))
	{
		e->err = count.err;
		e->field = count.field;
		return false;
	}
	if (count.total > INT32_MAX)
		return encode_fail(e, f, "tagged field is too long");
	return put_varint(e, (uint32_t) f->tag) && put_varint(e, (uint32_t) count.total) &&
		encode_field(e, f, msg);
}

static bool
encode_struct(Encoder *e, const KMsgDesc *desc, const void *msg)
{
	const KTags *unknown = (const KTags *) ((const char *) msg + desc->tags_offset);
	uint32_t	ntagged = 0;
	bool		ok = true;

	for (int i = 0; i < desc->nfields; i++)
	{
		const KFieldDesc *f = &desc->fields[i];

		if (is_written(e, desc, f, msg, &ok))
		{
			if (f->tag >= 0)
				ntagged++;
			else if (!encode_field(e, f, msg))
				return false;
		}
		if (!ok)
			return false;
	}

	if (!e->flexible)
	{
		if (unknown->count > 0)
			return encode_fail(e, NULL, "unknown tagged fields, but this version has no tags");
		return true;
	}
	if (!put_varint(e, ntagged + unknown->count))
		return false;
	for (int i = desc->nuntagged; i < desc->nfields; i++)
	{
		const KFieldDesc *f = &desc->fields[i];

		if (is_written(e, desc, f, msg, &ok) && !encode_tagged_field(e, f, msg))
			return false;
	}
	return unknown->count == 0 || put(e, unknown->data, unknown->len);
}

static bool
encode_message(Encoder *e, const KMsgDesc *desc, const void *msg)
{
	if (!in_versions(desc->versions, e->version))
		return encode_fail(e, NULL, "unknown version");
	return encode_struct(e, desc, msg);
}

bool
kmsg_encode(const KMsgDesc *desc, int version, const void *msg, KMsgWriter *w, const char **err)
{
	Encoder		e = {w, 0, NULL, NULL, version, version >= desc->flexible_from};
	const KMsgWriter before = *w;

	if (!encode_message(&e, desc, msg))
	{
		w->len = before.len;
		w->nrefs = before.nrefs;
		w->ref_bytes = before.ref_bytes;
	}
	*err = e.err;
	w->field = e.field;
	return e.err == NULL;
}

bool
kmsg_size(const KMsgDesc *desc, int version, const void *msg, size_t *size, const char **err)
{
	Encoder		e = {NULL, 0, NULL, NULL, version, version >= desc->flexible_from};
	bool		ok = encode_message(&e, desc, msg);

	*err = e.err;
	*size = e.total;
	return ok;
}
