/* Messages: a ring of payloads, all different, and of the masked frames that carry them. */
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <zlib.h>

#define RING_BYTES (8 << 20) /* of payloads: small rings stay in the cache */
#define MAX_RING 4096        /* messages after which a connection repeats itself */
#define HEAD_ROOM 14

/* What Socket.IO wraps a message in: EVENT (2) in Engine.IO's MESSAGE (4). */
static const char before[] = "42[\"message\",\"", behind[] = "\"]";

static uint8_t *payloads, *frames;
static size_t ring, stride, *frame_sizes;

void fill_random(uint8_t *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = getrandom(bytes, size < 256 ? size : 256, 0);
        if (n < 0) die("getrandom: %s", strerror(errno));
        bytes += n, size -= (size_t)n;
    }
}

size_t write_head(uint8_t *to, uint8_t first, uint64_t size, const uint8_t mask[4]) {
    size_t at = 0;
    to[at++] = first;
    int wide = size < 126 ? 0 : size < 65536 ? 2 : 8;
    to[at++] = 0x80 | (uint8_t)(wide == 0 ? size : wide == 2 ? 126 : 127);
    for (int i = wide - 1; i >= 0; i--) to[at++] = (uint8_t)(size >> (8 * i));
    memcpy(to + at, mask, 4);
    return at + 4;
}

/* Text such as services send, which compresses about as theirs does: to a quarter or so. */
static void write_records(uint8_t *payload, size_t size) {
    static const char *const names[] = {"Amsel", "Drossel", "Fink", "Star", "Meise", "Specht"};
    char record[160];
    for (size_t at = 0; at < size;) {
        int length = snprintf(record, sizeof record,
                              "{\"id\": %d, \"name\": \"%s\", \"price\": %d.%02d, \"at\": \"2026-%02d-%02d"
                              "T%02d:%02d:%02dZ\", \"tags\": [\"new\", \"%s\"]}, ",
                              rand() % 1000000, names[rand() % 6], rand() % 500, rand() % 100,
                              rand() % 12 + 1, rand() % 28 + 1, rand() % 24, rand() % 60,
                              rand() % 60, names[rand() % 6]);
        size_t taken = (size_t)length < size - at ? (size_t)length : size - at;
        memcpy(payload + at, record, taken);
        at += taken;
    }
}

static void write_payload(uint8_t *payload, size_t size) {
    if (options.compress) {
        write_records(payload, size);
        return;
    }
    fill_random(payload, size);
    if (options.binary) return;
    for (size_t i = 0; i < size; i++) payload[i] = ' ' + payload[i] % 95; /* printable, so UTF-8 */
    if (!options.socketio) return;
    for (size_t i = 0; i < size; i++) /* what JSON need not escape */
        if (payload[i] == '"' || payload[i] == '\\') payload[i] = '.';
    memcpy(payload, before, sizeof before - 1);
    memcpy(payload + size - (sizeof behind - 1), behind, sizeof behind - 1);
}

/* RFC 7692, section 7.2.1: a raw deflate stream without the last four bytes of its flush. */
static size_t pack(uint8_t *to, size_t room, const uint8_t *payload, size_t size) {
    static z_stream deflater;
    if (!deflater.state && deflateInit2(&deflater, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        die("zlib: no compressor");
    deflateReset(&deflater);
    deflater.next_in = (uint8_t *)payload, deflater.avail_in = (unsigned)size;
    deflater.next_out = to, deflater.avail_out = (unsigned)room;
    if (deflate(&deflater, Z_SYNC_FLUSH) != Z_OK || !deflater.avail_out) die("zlib: no room");
    return room - deflater.avail_out - 4;
}

/* Whether these bytes are a payload of the ring, compressed. */
bool is_payload_packed(const uint8_t *bytes, size_t size, uint64_t place) {
    static z_stream inflater;
    static uint8_t *output;
    static uint8_t tail[4] = {0, 0, 0xff, 0xff};
    if (!output) output = malloc(options.size + 64);
    if (!output || (!inflater.state && inflateInit2(&inflater, -15) != Z_OK)) die("zlib: no memory");
    inflateReset(&inflater);
    inflater.next_out = output, inflater.avail_out = (unsigned)options.size + 64;
    inflater.next_in = (uint8_t *)bytes, inflater.avail_in = (unsigned)size;
    if (inflate(&inflater, Z_SYNC_FLUSH) < 0) return false;
    inflater.next_in = tail, inflater.avail_in = sizeof tail;
    int result = inflate(&inflater, Z_SYNC_FLUSH);
    return (result >= 0 || result == Z_BUF_ERROR) && inflater.total_out == options.size &&
           memcmp(output, payload_at(place), options.size) == 0;
}

void make_messages(void) {
    uint8_t mask[4];
    size_t size = options.size;
    if (options.socketio && size < sizeof before + sizeof behind)
        die("a Socket.IO message has %zu bytes at least", sizeof before + sizeof behind);
    for (ring = 8; ring < MAX_RING && ring * 2 * (size + 1) <= RING_BYTES;) ring *= 2;
    stride = HEAD_ROOM + size + (options.compress ? size / 100 + 64 : 0);
    payloads = malloc(ring * size + 1);
    frames = malloc(ring * stride);
    frame_sizes = malloc(ring * sizeof *frame_sizes);
    uint8_t *packed = malloc(stride);
    if (!payloads || !frames || !frame_sizes || !packed)
        die("no memory for %zu messages of %zu bytes", ring, size);
    uint8_t first = 0x80 | (options.compress ? 0x40 : 0) | (options.binary ? BINARY : TEXT);
    for (size_t i = 0; i < ring; i++) {
        uint8_t *payload = payloads + i * size, *frame = frames + i * stride;
        write_payload(payload, size);
        size_t length = options.compress ? pack(packed, stride, payload, size) : size;
        const uint8_t *carried = options.compress ? packed : payload;
        fill_random(mask, 4);
        size_t at = write_head(frame, first, length, mask);
        for (size_t j = 0; j < length; j++) frame[at + j] = carried[j] ^ mask[j & 3];
        frame_sizes[i] = at + length;
    }
    free(packed);
}

const uint8_t *payload_at(uint64_t place) { return payloads + place % ring * options.size; }

const uint8_t *frame_at(uint64_t place, size_t *size) {
    *size = frame_sizes[place % ring];
    return frames + place % ring * stride;
}
