/* Peers: cryptographic libraries that seal and open batches of packets with AES-GCM as ESP does (RFC 4106). */
#ifndef PEERS_H
#define PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    MAX_BATCH = 64,     /* packets */
    MAX_LENGTH = 65536, /* bytes of text */
    NONCE = 12,         /* salt and IV */
    AAD = 8,            /* SPI and sequence number */
    TAG = 16,
};

/* Packets, each a text and behind it two tags: that of what it is now, and that of what opening makes of it. */
struct batch {
    uint8_t *text[MAX_BATCH];
    uint8_t *memory[MAX_BATCH]; /* what they lie in, to be freed; NULL behind the last */
    size_t length;              /* bytes of a text */
    unsigned count;
    unsigned turn;    /* which tag is meant, 0 or 1 */
    uint64_t counter; /* the last packet's IV and sequence number */
    uint8_t nonce[MAX_BATCH][NONCE];
    uint8_t aad[MAX_BATCH][AAD];
};

static inline uint8_t *batch_text(const struct batch *batch, unsigned i)
{
    return batch->text[i];
}

static inline uint8_t *batch_tag(const struct batch *batch, unsigned i)
{
    return batch_text(batch, i) + batch->length + batch->turn * TAG;
}

/* Fresh nonces, and the sequence numbers that go with them: part of sealing, and timed with it. All before any packet is sealed: a library's load
 * right behind these narrower stores to the same bytes would have to wait for them. */
static inline void batch_number(struct batch *batch)
{
    for (unsigned i = 0; i < batch->count; i++) {
        const uint64_t number = __builtin_bswap64(++batch->counter);
        memcpy(batch->nonce[i] + 4, &number, 8);
        memcpy(batch->aad[i] + 4, (const uint8_t *)&number + 4, 4);
    }
}

/* One way to call a library. `seal` and `open` work on all packets of a batch, in place, and return how many went well: sealed, or found
 * authentic. Fewer than all from `seal` means that the library cannot do it this way. */
struct peer {
    char name[40];
    void *(*create)(const uint8_t *key, size_t key_length); /* NULL: not to be had */
    void (*destroy)(void *state);
    unsigned (*seal)(void *state, struct batch *batch);
    unsigned (*open)(void *state, struct batch *batch);
};

/* Each fills `peers`, of which there is room for `room`, and returns how many there are; 0: the library does not work here. `description` gets
 * the library's name and version. */
size_t ipsec_mb_peers(struct peer *peers, size_t room, char *description, size_t size);
size_t openssl_peers(struct peer *peers, size_t room, char *description, size_t size);

#endif
