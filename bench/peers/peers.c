/* Measures the peers when it is told to, line by line (README.md has the protocol), so that a driver can let several programs take turns.
 * `ours.rs` speaks the same lines for this project's providers and does everything in the same way. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "peers.h"

enum {
    MAX_PEERS = 16,
    MAX_SLICES = 4096,
    LEAST_SLICES = 5,
    SLICE = 250000, /* nanoseconds */
};

static struct peer peers[MAX_PEERS];
static size_t peer_count;

/* What a command names, made ready. */
struct job {
    const struct peer *peer;
    void *state;
    struct batch *batch;
};

static const struct {
    const char *name;
    size_t key_length;
} SUITES[] = { { "aes-gcm-128", 16 }, { "aes-gcm-192", 24 }, { "aes-gcm-256", 32 } };

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* The same bytes in all programs. */
static void pattern(struct batch *batch)
{
    for (unsigned i = 0; i < batch->count; i++)
        for (size_t j = 0; j < batch->length; j++)
            batch_text(batch, i)[j] = (uint8_t)(i * 31 + j * 7 + j / 256);
}

static bool is_pattern(const struct batch *batch)
{
    for (unsigned i = 0; i < batch->count; i++)
        for (size_t j = 0; j < batch->length; j++)
            if (batch_text(batch, i)[j] != (uint8_t)(i * 31 + j * 7 + j / 256))
                return false;
    return true;
}

/* How the texts of a batch lie in memory. */
enum layout {
    PACKED,  /* in a row, each at an address divisible by 64 */
    BUFFERS, /* each in a packet buffer of its own, behind headers */
};

/* The product's buffers (`packet::BufferPool`): room before and after a packet, some sizes of storage, and in each eight colours that keep the beginnings
 * of neighbours out of the same cache sets. */
enum {
    HEADROOM = 256,
    TAILROOM = 128,
    HEADERS = 14 + 20 + 16, /* Ethernet, IPv4, ESP with its IV */
};
static const size_t CLASSES[] = { 2048 + 64, 10240 + 64, 69632 + 64 };

static void batch_free(struct batch *batch)
{
    if (batch == NULL)
        return;
    for (unsigned i = 0; i < MAX_BATCH && batch->memory[i] != NULL; i++)
        free(batch->memory[i]);
    free(batch);
}

static bool place_packed(struct batch *batch)
{
    const size_t stride = (batch->length + 2 * TAG + 63) / 64 * 64 + 64;
    batch->memory[0] = aligned_alloc(64, stride * batch->count);
    if (batch->memory[0] == NULL)
        return false;
    memset(batch->memory[0], 0, stride * batch->count);
    for (unsigned i = 0; i < batch->count; i++)
        batch->text[i] = batch->memory[0] + i * stride;
    return true;
}

static bool place_in_buffers(struct batch *batch)
{
    const size_t need = HEADROOM + HEADERS + batch->length + TAG + TAILROOM;
    size_t class = 0;
    while (class < sizeof CLASSES / sizeof *CLASSES && CLASSES[class] < need)
        class++;
    for (unsigned i = 0; i < batch->count; i++) {
        batch->memory[i] = class < sizeof CLASSES / sizeof *CLASSES ? calloc(1, CLASSES[class] + 64 * ((i + 1) % 8)) : calloc(1, need);
        if (batch->memory[i] == NULL)
            return false;
        batch->text[i] = batch->memory[i] + HEADROOM + HEADERS;
    }
    return true;
}

static struct batch *batch_new(size_t length, unsigned count, enum layout layout)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL)
        return NULL;
    batch->length = length;
    batch->count = count;
    if (!(layout == PACKED ? place_packed(batch) : place_in_buffers(batch))) {
        batch_free(batch);
        return NULL;
    }
    for (unsigned i = 0; i < count; i++) {
        memcpy(batch->nonce[i], "salt", 4);
        memcpy(batch->aad[i], (const uint8_t[]){ 0, 0, 0x10, 1 }, 4);
    }
    pattern(batch);
    return batch;
}

static void job_end(struct job *job)
{
    if (job->state != NULL)
        job->peer->destroy(job->state);
    batch_free(job->batch);
    *job = (struct job){ 0 };
}

/* Whether the names and numbers mean something; says what does not. */
static bool job_begin(struct job *job, const char *name, const char *suite, size_t length, unsigned count, const char *layout)
{
    *job = (struct job){ 0 };
    for (size_t i = 0; i < peer_count; i++)
        if (strcmp(peers[i].name, name) == 0)
            job->peer = &peers[i];
    if (job->peer == NULL) {
        printf("error no peer %s\n", name);
        return false;
    }
    if (length < 1 || length > MAX_LENGTH || count < 1 || count > MAX_BATCH) {
        printf("error batches of 1 to %d packets of 1 to %d bytes, not %u of %zu\n", MAX_BATCH, MAX_LENGTH, count, length);
        return false;
    }
    if (strcmp(layout, "packed") != 0 && strcmp(layout, "buffers") != 0) {
        printf("error layouts are packed and buffers, not %s\n", layout);
        return false;
    }
    size_t key_length = 0;
    for (size_t i = 0; i < sizeof SUITES / sizeof *SUITES; i++)
        if (strcmp(SUITES[i].name, suite) == 0)
            key_length = SUITES[i].key_length;
    if (key_length == 0) {
        printf("error no suite %s\n", suite);
        return false;
    }
    uint8_t key[32];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 11 + 1);
    job->batch = batch_new(length, count, strcmp(layout, "packed") == 0 ? PACKED : BUFFERS);
    job->state = job->peer->create(key, key_length);
    if (job->batch == NULL || job->state == NULL) {
        printf("error %s cannot be set up\n", name);
        job_end(job);
        return false;
    }
    return true;
}

/* Seals what is there under the same nonces as ever, for tag `turn`. */
static bool seal_again(struct job *job, unsigned turn)
{
    job->batch->counter = 0;
    job->batch->turn = turn;
    return job->peer->seal(job->state, job->batch) == job->batch->count;
}

/* The text alternates between plaintext and ciphertext. In counter mode each is the ciphertext of the other under the same nonce, so with a tag
 * for each every opening is of something authentic, in place, and nothing has to be put back in between. */
static bool prepare_to_open(struct job *job)
{
    const bool sealed = seal_again(job, 0) && seal_again(job, 1) && seal_again(job, 0);
    job->batch->turn = 0;
    return sealed;
}

static bool open_once(struct job *job)
{
    const unsigned good = job->peer->open(job->state, job->batch);
    job->batch->turn ^= 1;
    return good == job->batch->count;
}

static bool seal_once(struct job *job)
{
    return job->peer->seal(job->state, job->batch) == job->batch->count;
}

/* FNV-1a, 64 bits: enough to see that two programs made the same bytes. */
static uint64_t digest(uint64_t hash, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* AES-128-GCM as RFC 4106 uses it: the second vector of draft-mcgrew-gcm-test-01. */
static bool known_answer(const struct peer *peer)
{
    static const uint8_t KEY[16] = { 0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08 };
    static const uint8_t SALT[4] = { 0xca, 0xfe, 0xba, 0xbe }, SPI[4] = { 0x00, 0x00, 0xa5, 0xf8 };
    static const uint8_t IV[8] = { 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88 }, SEQUENCE[4] = { 0x00, 0x00, 0x00, 0x0a };
    static const uint8_t PLAIN[64] = "\x45\x00\x00\x3e\x69\x8f\x00\x00\x80\x11\x4d\xcc\xc0\xa8\x01\x02\xc0\xa8\x01\x01\x0a\x98\x00\x35\x00\x2a\x23\x43\xb2\xd0\x01\x00"
                                     "\x00\x01\x00\x00\x00\x00\x00\x00\x03\x73\x69\x70\x09\x63\x79\x62\x65\x72\x63\x69\x74\x79\x02\x64\x6b\x00\x00\x01\x00\x01\x00\x01";
    static const uint8_t CIPHER[64 + TAG] =
        "\xde\xb2\x2c\xd9\xb0\x7c\x72\xc1\x6e\x3a\x65\xbe\xeb\x8d\xf3\x04\xa5\xa5\x89\x7d\x33\xae\x53\x0f\x1b\xa7\x6d\x5d\x11\x4d\x2a\x5c"
        "\x3d\xe8\x18\x27\xc1\x0e\x9a\x4f\x51\x33\x0d\x0e\xec\x41\x66\x42\xcf\xbb\x85\xa5\xb4\x7e\x48\xa4\xec\x3b\x9b\xa9\x5d\x91\x8b\xd1"
        "\x83\xb7\x0d\x3a\xa8\xbc\x6e\xe4\xc3\x09\xe9\xd8\x5a\x41\xad\x4a";
    struct batch *batch = batch_new(sizeof PLAIN, 1, PACKED);
    void *state = peer->create(KEY, sizeof KEY);
    bool good = false;
    if (batch != NULL && state != NULL) {
        memcpy(batch_text(batch, 0), CIPHER, sizeof CIPHER);
        memcpy(batch->nonce[0], SALT, 4);
        memcpy(batch->nonce[0] + 4, IV, 8);
        memcpy(batch->aad[0], SPI, 4);
        memcpy(batch->aad[0] + 4, SEQUENCE, 4);
        good = peer->open(state, batch) == 1 && memcmp(batch_text(batch, 0), PLAIN, sizeof PLAIN) == 0;
    }
    if (state != NULL)
        peer->destroy(state);
    batch_free(batch);
    return good;
}

/* Opens a published packet; seals, and prints a digest of ciphertexts and tags; opens, and sees that everything is authentic and as before, and that
 * a damaged packet is not. */
static void check(struct job *job)
{
    struct batch *batch = job->batch;
    if (!seal_again(job, 0)) {
        printf("unsupported\n");
        return;
    }
    if (!known_answer(job->peer)) {
        printf("error %s does not open a published packet\n", job->peer->name);
        return;
    }
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (unsigned i = 0; i < batch->count; i++) {
        hash = digest(hash, batch_text(batch, i), batch->length);
        hash = digest(hash, batch_tag(batch, i), TAG);
    }
    if (job->peer->open(job->state, batch) != batch->count || !is_pattern(batch)) {
        printf("error %s does not open what it sealed\n", job->peer->name);
        return;
    }
    const unsigned damaged = batch->count / 2;
    if (!seal_again(job, 0)) {
        printf("error %s does not seal twice\n", job->peer->name);
        return;
    }
    batch_text(batch, damaged)[batch->length - 1] ^= 1;
    if (job->peer->open(job->state, batch) != batch->count - 1) {
        printf("error %s takes a damaged packet\n", job->peer->name);
        return;
    }
    printf("%016" PRIx64 "\n", hash);
}

static int compare(const void *a, const void *b)
{
    const double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

/* Prints nanoseconds per packet: the median of slices, so that what else the machine did in a few of them does not count. */
static void measure(struct job *job, bool (*once)(struct job *), unsigned milliseconds)
{
    static double slices[MAX_SLICES];
    size_t count = 0;
    uint64_t calls = 0, begin = now(), elapsed;
    /* Warms up, and tells how many calls make a slice. */
    do {
        if (!once(job))
            goto failed;
        calls++;
        elapsed = now() - begin;
    } while (elapsed < UINT64_C(100000) * milliseconds);
    const uint64_t each = calls * SLICE / elapsed + 1;
    begin = now();
    do {
        const uint64_t start = now();
        for (uint64_t i = 0; i < each; i++)
            if (!once(job))
                goto failed;
        slices[count++] = (double)(now() - start) / (double)(each * job->batch->count);
    } while (count < MAX_SLICES && (count < LEAST_SLICES || now() - begin < UINT64_C(1000000) * milliseconds));
    qsort(slices, count, sizeof *slices, compare);
    printf("%.3f\n", slices[count / 2]);
    return;
failed:
    printf("error %s failed\n", job->peer->name);
}

static void command(const char *line)
{
    char name[64], suite[64], operation[8], layout[16];
    unsigned length, count, milliseconds;
    struct job job;
    if (sscanf(line, "check %63s %63s %u %u %15s", name, suite, &length, &count, layout) == 5) {
        if (job_begin(&job, name, suite, length, count, layout)) {
            check(&job);
            job_end(&job);
        }
    } else if (sscanf(line, "round %63s %63s %7s %u %u %u %15s", name, suite, operation, &length, &count, &milliseconds, layout) == 7) {
        const bool open = strcmp(operation, "open") == 0;
        if (!open && strcmp(operation, "seal") != 0) {
            printf("error operations are seal and open, not %s\n", operation);
        } else if (milliseconds < 1 || milliseconds > 10000) {
            printf("error a round takes 1 to 10000 ms, not %u\n", milliseconds);
        } else if (job_begin(&job, name, suite, length, count, layout)) {
            if (open && !prepare_to_open(&job))
                printf("error %s failed\n", name);
            else
                measure(&job, open ? open_once : seal_once, milliseconds);
            job_end(&job);
        }
    } else {
        printf("error unknown command\n");
    }
}

int main(void)
{
    char description[2][128] = { "no ipsec-mb", "no OpenSSL" }, line[256];
    peer_count = ipsec_mb_peers(peers, MAX_PEERS, description[0], sizeof description[0]);
    peer_count += openssl_peers(peers + peer_count, MAX_PEERS - peer_count, description[1], sizeof description[1]);
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strcmp(line, "describe\n") == 0) {
            printf("%s, %s\n", description[0], description[1]);
        } else if (strcmp(line, "list\n") == 0) {
            for (size_t i = 0; i < peer_count; i++)
                printf("%s ", peers[i].name);
            printf("\n");
        } else {
            command(line);
        }
        fflush(stdout);
    }
    return 0;
}
