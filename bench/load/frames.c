/* What the server sends, frame by frame, RFC 6455, section 5; and Socket.IO's greeting. */
#include "load.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static size_t head_size(const struct connection *c) {
    int size = c->head_size < 2 ? 0 : c->head[1] & 0x7f;
    return size < 126 ? 2 : size == 126 ? 4 : 10;
}

static size_t largest_message(const struct connection *c) {
    if (c->state == GREETING) return MAX_HEAD;
    return options.size + (c->is_packed ? options.size / 100 + 64 : 0);
}

static bool begin_data(struct connection *c, int opcode, bool is_reserved, uint64_t size) {
    int wanted = options.binary ? BINARY : TEXT;
    if (c->state != GREETING && c->received == c->sent)
        return fail(c, "a message that nobody sent"), false;
    if (opcode != (c->in_message ? CONTINUATION : wanted))
        return fail(c, "opcode %d is not what was sent", opcode), false;
    if (!c->in_message) c->is_packed = is_reserved;
    if (c->is_packed && !c->packed && !(c->packed = malloc(largest_message(c))))
        die("no memory for a compressed message");
    if (c->message_size + size > largest_message(c)) return fail(c, "an echo is too long"), false;
    c->in_message = true;
    return true;
}

static bool begin_frame(struct connection *c) {
    int opcode = c->head[0] & 15;
    bool is_final = c->head[0] & 0x80, is_reserved = c->head[0] & 0x40;
    uint64_t size = c->head[1] & 0x7f;
    if (size > 125) {
        size = 0;
        for (size_t i = 2; i < c->head_size; i++) size = size << 8 | c->head[i];
        if (size < (c->head_size == 4 ? 126 : 65536)) return fail(c, "a length is not minimal"), false;
    }
    /* RFC 7692, section 6: only a message's first frame carries the bit. */
    bool may_be_packed = options.compress && opcode < CLOSE && !c->in_message;
    if (c->head[0] & 0x30 || (is_reserved && !may_be_packed))
        return fail(c, "a reserved bit is set"), false;
    if (c->head[1] & 0x80) return fail(c, "a frame of the server is masked"), false;
    if (opcode >= CLOSE) {
        if (opcode > PONG) return fail(c, "unknown opcode %d", opcode), false;
        if (!is_final || size > 125) return fail(c, "a control frame is long or in parts"), false;
        c->control_size = 0;
    } else if (!begin_data(c, opcode, is_reserved, size)) {
        return false;
    }
    c->in_frame = true;
    c->frame_left = size;
    return true;
}

/* Engine.IO's OPEN (0) is answered by a CONNECT (40), and that by another. */
static void end_greeting(struct connection *c, int64_t at) {
    static const char connect[] = "40", *const expected[] = {"0{", "40{"};
    uint8_t frame[8], mask[4];
    const char *wanted = expected[c->received];
    if (c->message_size < strlen(wanted) || memcmp(c->response, wanted, strlen(wanted)) != 0) {
        fail(c, "no greeting of Socket.IO");
        return;
    }
    c->message_size = 0;
    if (c->received++ == 1) {
        c->received = 0;
        note_open(c, at);
        return;
    }
    fill_random(mask, 4);
    size_t size = write_head(frame, 0x80 | TEXT, 2, mask);
    for (size_t i = 0; i < 2; i++) frame[size + i] = (uint8_t)connect[i] ^ mask[i];
    queue(c, frame, size + 2);
}

static void end_message(struct connection *c, int64_t at) {
    c->in_message = false;
    if (c->state == GREETING) {
        end_greeting(c, at);
        return;
    }
    if (c->is_packed) {
        if (!is_payload_packed(c->packed, c->message_size, c->offset + c->received)) {
            fail(c, "an echo differs from what was sent");
            return;
        }
        if (measuring) packed_messages++, packed_bytes += c->message_size;
    } else if (c->message_size != options.size) {
        fail(c, "an echo of %" PRIu64 " bytes", c->message_size);
        return;
    }
    int64_t took = at - c->sent_at[c->received % (uint64_t)options.depth];
    c->message_size = 0;
    c->received++;
    if (measuring) {
        messages++;
        note_latency(took);
    }
    if (refilling) send_message(c, at);
}

static void end_frame(struct connection *c, int64_t at) {
    int opcode = c->head[0] & 15;
    c->in_frame = false;
    c->head_size = 0;
    if (opcode < CLOSE) {
        if (c->head[0] & 0x80) end_message(c, at);
    } else if (opcode == PING) {
        send_control(c, PONG, c->control, c->control_size);
    } else if (opcode == CLOSE) {
        if (c->state == CLOSING) end(c);
        int code = c->control_size < 2 ? 1005 : c->control[0] << 8 | c->control[1];
        fail(c, "closed by the server with %d", code);
    }
}

static bool take(struct connection *c, const uint8_t *bytes, size_t size) {
    if ((c->head[0] & 15) >= CLOSE) {
        memcpy(c->control + c->control_size, bytes, size);
        c->control_size += size;
        return true;
    }
    if (c->state == GREETING) {
        memcpy(c->response + c->message_size, bytes, size);
    } else if (c->is_packed) {
        memcpy(c->packed + c->message_size, bytes, size);
    } else if (memcmp(payload_at(c->offset + c->received) + c->message_size, bytes, size) != 0) {
        fail(c, "an echo differs from what was sent");
        return false;
    }
    c->message_size += size;
    return true;
}

void read_frames(struct connection *c, const uint8_t *bytes, size_t size, int64_t at) {
    while (c->state != CLOSED) {
        if (!c->in_frame) {
            while (c->head_size < head_size(c)) {
                if (size == 0) return;
                c->head[c->head_size++] = *bytes++;
                size--;
            }
            if (!begin_frame(c)) return;
        }
        size_t taken = size < c->frame_left ? size : c->frame_left;
        if (!take(c, bytes, taken)) return;
        bytes += taken, size -= taken;
        c->frame_left -= taken;
        if (c->frame_left > 0) return;
        end_frame(c, at);
    }
}
