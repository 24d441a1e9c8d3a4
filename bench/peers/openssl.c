/* OpenSSL's EVP interface, as a data plane uses it: a context for each key and direction, of which each packet sets only the IV. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "peers.h"

struct state {
    EVP_CIPHER_CTX *seal, *open;
};

static void destroy(void *state_)
{
    struct state *state = state_;
    EVP_CIPHER_CTX_free(state->seal);
    EVP_CIPHER_CTX_free(state->open);
    free(state);
}

static void *create(const uint8_t *key, size_t key_length)
{
    struct state *state = calloc(1, sizeof *state);
    if (state == NULL)
        return NULL;
    const EVP_CIPHER *cipher = key_length == 16 ? EVP_aes_128_gcm() : key_length == 24 ? EVP_aes_192_gcm() : EVP_aes_256_gcm();
    state->seal = EVP_CIPHER_CTX_new();
    state->open = EVP_CIPHER_CTX_new();
    if (state->seal == NULL || state->open == NULL || EVP_EncryptInit_ex(state->seal, cipher, NULL, key, NULL) != 1 ||
        EVP_DecryptInit_ex(state->open, cipher, NULL, key, NULL) != 1) {
        destroy(state);
        return NULL;
    }
    return state;
}

static unsigned openssl_seal(void *state_, struct batch *batch)
{
    EVP_CIPHER_CTX *const context = ((struct state *)state_)->seal;
    unsigned good = 0;
    batch_number(batch);
    for (unsigned i = 0; i < batch->count; i++) {
        uint8_t *text = batch_text(batch, i);
        int length;
        good += EVP_EncryptInit_ex(context, NULL, NULL, NULL, batch->nonce[i]) == 1 &&
                EVP_EncryptUpdate(context, NULL, &length, batch->aad[i], AAD) == 1 &&
                EVP_EncryptUpdate(context, text, &length, text, (int)batch->length) == 1 &&
                EVP_EncryptFinal_ex(context, text + batch->length, &length) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, batch_tag(batch, i)) == 1;
    }
    return good;
}

static unsigned openssl_open(void *state_, struct batch *batch)
{
    EVP_CIPHER_CTX *const context = ((struct state *)state_)->open;
    unsigned good = 0;
    for (unsigned i = 0; i < batch->count; i++) {
        uint8_t *text = batch_text(batch, i);
        int length;
        good += EVP_DecryptInit_ex(context, NULL, NULL, NULL, batch->nonce[i]) == 1 &&
                EVP_DecryptUpdate(context, NULL, &length, batch->aad[i], AAD) == 1 &&
                EVP_DecryptUpdate(context, text, &length, text, (int)batch->length) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, batch_tag(batch, i)) == 1 &&
                EVP_DecryptFinal_ex(context, text + batch->length, &length) == 1;
    }
    return good;
}

size_t openssl_peers(struct peer *peers, size_t room, char *description, size_t size)
{
    if (room == 0)
        return 0;
    snprintf(description, size, "OpenSSL %s", OpenSSL_version(OPENSSL_VERSION_STRING));
    const unsigned long version = OpenSSL_version_num();
    snprintf(peers->name, sizeof peers->name, "openssl-%lu.%lu", version >> 28 & 15, version >> 20 & 255);
    peers->create = create;
    peers->destroy = destroy;
    peers->seal = openssl_seal;
    peers->open = openssl_open;
    return 1;
}
