/*
 * kcoord_letter.c
 *		Answers for requests that another broker holds: a queue a broker, in shared memory.
 */
#include "postgres.h"

#include "coord/kcoord_int.h"

static dsa_pointer
pop(int number)
{
	KCoordBroker *broker = &kcoord_shared->brokers[number];
	dsa_area   *area = kcoord_area();
	dsa_pointer block;

	/* Only its owner takes letters out: empty now is empty until our latch is set. */
	if (!DsaPointerIsValid(*(volatile dsa_pointer *) &broker->head))
		return InvalidDsaPointer;
	SpinLockAcquire(&broker->mutex);
	block = broker->head;
	broker->head = ((KCoordLetter *) dsa_get_address(area, block))->next;
	if (!DsaPointerIsValid(broker->head))
		broker->tail = InvalidDsaPointer;
	SpinLockRelease(&broker->mutex);
	return block;
}

void
kcoord_discard(int broker)
{
	dsa_pointer block;

	while (DsaPointerIsValid(block = pop(broker)))
	{
		const KCoordLetter *letter = dsa_get_address(kcoord_area(), block);

		kcoord_free(&block, KCOORD_LETTER_SIZE(letter->len));
	}
}

bool
kcoord_receive(KCoordPost *post, KCoordVersion *version)
{
	dsa_pointer block = pop(kcoord_broker);
	KCoordLetter *letter;
	void	   *body;

	if (!DsaPointerIsValid(block))
		return false;
	letter = dsa_get_address(kcoord_area(), block);
	post->waiter = letter->waiter;
	post->version = letter->version.version;
	post->len = letter->len;
	*version = letter->version;
	body = MemoryContextAllocExtended(CurrentMemoryContext, Max(letter->len, 1),
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (body != NULL)
		memcpy(body, letter->body, letter->len);
	post->body = body;
	kcoord_free(&block, KCOORD_LETTER_SIZE(post->len));
	return true;
}
