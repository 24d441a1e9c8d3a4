/* Intel Multi-Buffer Crypto for IPSec: its bursts of jobs, its single jobs, and its functions for one packet. */
#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>
#include <stdio.h>
#include <stdlib.h>

#include "peers.h"

/* A manager for each key: it has the queue of jobs. */
struct state {
    struct gcm_key_data key;
    IMB_MGR *manager;
    size_t key_length;
    uint8_t tags[MAX_BATCH][TAG]; /* what opening computes, to be compared with what the packets have */
#ifdef HAVE_IMB_SET_SESSION
    IMB_JOB sessions[2]; /* of opening, of sealing */
#endif
#ifdef HAVE_IMB_QUIC_AES_GCM
    void *texts[MAX_BATCH], *made[MAX_BATCH];
    const void *sources[MAX_BATCH], *nonces[MAX_BATCH], *aads[MAX_BATCH];
    uint64_t lengths[MAX_BATCH];
#endif
};

static IMB_MGR *manager(void)
{
    IMB_MGR *manager = alloc_mb_mgr(0);
    if (manager == NULL)
        return NULL;
    IMB_ARCH arch;
    init_mb_mgr_auto(manager, &arch);
    if (imb_get_errno(manager) != 0) {
        free_mb_mgr(manager);
        return NULL;
    }
    return manager;
}

/* The library computes the tag of what is opened; to compare it is the caller's. */
static unsigned verified(const struct state *state, const struct batch *batch)
{
    unsigned good = 0;
    for (unsigned i = 0; i < batch->count; i++) {
        uint64_t made[2], found[2];
        memcpy(made, state->tags[i], TAG);
        memcpy(found, batch_tag(batch, i), TAG);
        good += ((made[0] ^ found[0]) | (made[1] ^ found[1])) == 0;
    }
    return good;
}

/* What all packets under a key have in common. */
static inline void fill_session(IMB_JOB *job, const struct state *state, bool seal)
{
    job->cipher_mode = IMB_CIPHER_GCM;
    job->hash_alg = IMB_AUTH_AES_GMAC;
    job->cipher_direction = seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
    job->chain_order = seal ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
    job->enc_keys = &state->key;
    job->dec_keys = &state->key;
    job->key_len_in_bytes = state->key_length;
    job->cipher_start_src_offset_in_bytes = 0;
    job->hash_start_src_offset_in_bytes = 0;
    job->iv_len_in_bytes = NONCE;
    job->u.GCM.aad_len_in_bytes = AAD;
    job->auth_tag_output_len_in_bytes = TAG;
}

static void *create(const uint8_t *key, size_t key_length)
{
    struct state *state = aligned_alloc(64, (sizeof *state + 63) / 64 * 64);
    if (state == NULL)
        return NULL;
    memset(state, 0, sizeof *state);
    state->manager = manager();
    state->key_length = key_length;
    if (state->manager == NULL) {
        free(state);
        return NULL;
    }
    switch (key_length) {
    case 16:
        IMB_AES128_GCM_PRE(state->manager, key, &state->key);
        break;
    case 24:
        IMB_AES192_GCM_PRE(state->manager, key, &state->key);
        break;
    default:
        IMB_AES256_GCM_PRE(state->manager, key, &state->key);
        break;
    }
#ifdef HAVE_IMB_SET_SESSION
    for (int seal = 0; seal < 2; seal++) {
        fill_session(&state->sessions[seal], state, seal != 0);
        imb_set_session(state->manager, &state->sessions[seal]);
    }
#endif
    return state;
}

static void destroy(void *state_)
{
    struct state *state = state_;
    free_mb_mgr(state->manager);
    memset(&state->key, 0, sizeof state->key);
    free(state);
}

static inline void fill(IMB_JOB *job, struct state *state, struct batch *batch, unsigned i, bool seal)
{
#ifdef HAVE_IMB_SET_SESSION
    /* Later versions tell whether the job that they lend was last used for the same. */
    const IMB_JOB *session = &state->sessions[seal];
    if (job->session_id != session->session_id) {
        fill_session(job, state, seal);
        memcpy(job->suite_id, session->suite_id, sizeof job->suite_id);
        job->session_id = session->session_id;
    }
#else
    fill_session(job, state, seal);
#endif
    job->src = batch_text(batch, i);
    job->dst = batch_text(batch, i);
    job->msg_len_to_cipher_in_bytes = batch->length;
    job->msg_len_to_hash_in_bytes = batch->length;
    job->iv = batch->nonce[i];
    job->u.GCM.aad = batch->aad[i];
    job->auth_tag_output = seal ? batch_tag(batch, i) : state->tags[i];
}

/* The generic burst: jobs are lent by the manager, filled and submitted together. AES-GCM is finished when the call returns. */
static inline unsigned burst(struct state *state, struct batch *batch, bool seal, bool check)
{
    IMB_MGR *const manager = state->manager;
    IMB_JOB *jobs[MAX_BATCH];
    if (seal)
        batch_number(batch);
    const unsigned count = IMB_GET_NEXT_BURST(manager, batch->count, jobs);
    for (unsigned i = 0; i < count; i++)
        fill(jobs[i], state, batch, i, seal);
    const unsigned done = check ? IMB_SUBMIT_BURST(manager, count, jobs) : IMB_SUBMIT_BURST_NOCHECK(manager, count, jobs);
    if (done != batch->count)
        return 0;
    return seal ? done : verified(state, batch);
}

static unsigned burst_seal(void *state, struct batch *batch) { return burst(state, batch, true, false); }
static unsigned burst_open(void *state, struct batch *batch) { return burst(state, batch, false, false); }
static unsigned checked_seal(void *state, struct batch *batch) { return burst(state, batch, true, true); }
static unsigned checked_open(void *state, struct batch *batch) { return burst(state, batch, false, true); }

/* Jobs one by one. */
static inline unsigned single(struct state *state, struct batch *batch, bool seal)
{
    IMB_MGR *const manager = state->manager;
    unsigned done = 0;
    if (seal)
        batch_number(batch);
    for (unsigned i = 0; i < batch->count; i++) {
        fill(IMB_GET_NEXT_JOB(manager), state, batch, i, seal);
        for (const IMB_JOB *job = IMB_SUBMIT_JOB_NOCHECK(manager); job != NULL; job = IMB_GET_COMPLETED_JOB(manager))
            done += job->status == IMB_STATUS_COMPLETED;
    }
    if (done != batch->count)
        return 0;
    return seal ? done : verified(state, batch);
}

static unsigned single_seal(void *state, struct batch *batch) { return single(state, batch, true); }
static unsigned single_open(void *state, struct batch *batch) { return single(state, batch, false); }

/* The direct functions: one packet a call, no job. */
static unsigned direct_seal(void *state_, struct batch *batch)
{
    struct state *state = state_;
    const IMB_MGR *const manager = state->manager;
    struct gcm_context_data context;
    const aes_gcm_enc_dec_t seal = state->key_length == 16   ? manager->gcm128_enc
                                   : state->key_length == 24 ? manager->gcm192_enc
                                                             : manager->gcm256_enc;
    batch_number(batch);
    for (unsigned i = 0; i < batch->count; i++) {
        uint8_t *text = batch_text(batch, i);
        seal(&state->key, &context, text, text, batch->length, batch->nonce[i], batch->aad[i], AAD, batch_tag(batch, i), TAG);
    }
    return batch->count;
}

static unsigned direct_open(void *state_, struct batch *batch)
{
    struct state *state = state_;
    const IMB_MGR *const manager = state->manager;
    struct gcm_context_data context;
    const aes_gcm_enc_dec_t open = state->key_length == 16   ? manager->gcm128_dec
                                   : state->key_length == 24 ? manager->gcm192_dec
                                                             : manager->gcm256_dec;
    for (unsigned i = 0; i < batch->count; i++) {
        uint8_t *text = batch_text(batch, i);
        open(&state->key, &context, text, text, batch->length, batch->nonce[i], batch->aad[i], AAD, state->tags[i], TAG);
    }
    return verified(state, batch);
}

/* Later versions have a call for several packets under one key, made for QUIC. */
#ifdef HAVE_IMB_QUIC_AES_GCM
static inline unsigned quic(struct state *state, struct batch *batch, bool seal)
{
    if (seal)
        batch_number(batch);
    for (unsigned i = 0; i < batch->count; i++) {
        state->sources[i] = state->texts[i] = batch_text(batch, i);
        state->nonces[i] = batch->nonce[i];
        state->aads[i] = batch->aad[i];
        state->lengths[i] = batch->length;
        state->made[i] = seal ? batch_tag(batch, i) : state->tags[i];
    }
    imb_quic_aes_gcm(state->manager, &state->key, (IMB_KEY_SIZE_BYTES)state->key_length, seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT, state->texts,
                     state->sources, state->lengths, state->nonces, state->aads, AAD, state->made, TAG, batch->count);
    return seal ? batch->count : verified(state, batch);
}

static unsigned quic_seal(void *state, struct batch *batch) { return quic(state, batch, true); }
static unsigned quic_open(void *state, struct batch *batch) { return quic(state, batch, false); }
#endif

static const struct {
    const char *suffix;
    unsigned (*seal)(void *, struct batch *);
    unsigned (*open)(void *, struct batch *);
} WAYS[] = {
    { "burst", burst_seal, burst_open },
    { "burst-checked", checked_seal, checked_open },
    { "job", single_seal, single_open },
    { "direct", direct_seal, direct_open },
#ifdef HAVE_IMB_QUIC_AES_GCM
    { "quic", quic_seal, quic_open },
#endif
};

size_t ipsec_mb_peers(struct peer *peers, size_t room, char *description, size_t size)
{
    IMB_MGR *probe = manager();
    if (probe == NULL)
        return 0;
    free_mb_mgr(probe);
    snprintf(description, size, "ipsec-mb %s", imb_get_version_str());
    const unsigned version = imb_get_version();
    size_t count = 0;
    for (size_t i = 0; i < sizeof WAYS / sizeof *WAYS && count < room; i++) {
        struct peer *peer = &peers[count++];
        snprintf(peer->name, sizeof peer->name, "ipsec-mb-%u.%u-%s", version >> 16 & 255, version >> 8 & 255, WAYS[i].suffix);
        peer->create = create;
        peer->destroy = destroy;
        peer->seal = WAYS[i].seal;
        peer->open = WAYS[i].open;
    }
    return count;
}
