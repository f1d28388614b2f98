/*
 * bare: what a server cannot do without, and nothing else.
 *
 * Blocking sockets in one thread, and one send or SSL_write for each message: no queues, no
 * deadlines, no checks, and no look at who reads slowly. It is the floor of what the kernel and
 * OpenSSL take, and so the ceiling of any server that answers each message when it comes. What a
 * client sends goes back to it (echo), or to all (crowd). Run by bare_c.py.
 */
#define _GNU_SOURCE /* strcasestr */
#include <endian.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 20000
#define MASK 4

struct client {
    int fd;
    SSL *ssl;
    struct client *next; /* of those that are free again */
};

static struct client clients[MAX_CLIENTS], *left;
static int count, poller;
static bool echoes;
static SSL_CTX *tls;
static uint8_t received[2 << 20]; /* what one client has sent, up to the end of a frame */

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int get(struct client *c, void *bytes, size_t size) {
    return c->ssl ? SSL_read(c->ssl, bytes, (int)size) : (int)recv(c->fd, bytes, size, 0);
}

static bool put(struct client *c, const void *bytes, size_t size) {
    return (c->ssl ? SSL_write(c->ssl, bytes, (int)size)
                   : (int)send(c->fd, bytes, size, MSG_NOSIGNAL)) == (int)size;
}

/* RFC 6455, section 4.2.2: what the handshake is answered with, if it has a key. */
static int answer_to(const char *head, char *answer) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", name[] = "Sec-WebSocket-Key:";
    unsigned char digest[SHA_DIGEST_LENGTH], accept[32] = "";
    const char *found = strcasestr(head, name);
    char key[128];
    if (found && sscanf(found + sizeof name - 1, " %60[^\r]", key) == 1) {
        strcat(key, guid);
        SHA1((unsigned char *)key, strlen(key), digest);
        EVP_EncodeBlock(accept, digest, sizeof digest);
    }
    return sprintf(answer,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                   accept);
}

static void take_in(int listener) {
    struct client *c = left ? left : &clients[count];
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    char head[2048], answer[256];
    int one = 1, size = 0, n;
    if (left)
        left = left->next;
    else if (count++ == MAX_CLIENTS)
        die("too many clients");
    if ((c->fd = accept(listener, NULL, NULL)) < 0) die("accept");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (tls && (!(c->ssl = SSL_new(tls)) || !SSL_set_fd(c->ssl, c->fd) || SSL_accept(c->ssl) != 1))
        die("SSL_accept");
    do {
        if ((n = get(c, head + size, sizeof head - 1 - (size_t)size)) <= 0) die("request");
        head[size += n] = '\0';
    } while (!strstr(head, "\r\n\r\n"));
    if (!put(c, answer, (size_t)answer_to(head, answer))) die("101");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0) die("epoll_ctl");
}

static void leave(struct client *c) {
    if (!echoes) exit(0); /* the crowd goes */
    SSL_free(c->ssl);
    close(c->fd);
    *c = (struct client){.next = left};
    left = c;
}

/* The size of the frame that begins here; 0 while its header is incomplete. */
static size_t frame_at(const uint8_t *at, size_t there, size_t *header) {
    uint16_t medium;
    uint64_t large;
    uint8_t size = there < 2 ? 0 : at[1] & 127;
    *header = 2 + (size == 126 ? 2 : size == 127 ? 8 : 0);
    if (there < *header + MASK) return 0;
    memcpy(&medium, at + 2, sizeof medium);
    memcpy(&large, at + 2, sizeof large);
    return *header + MASK + (size == 126 ? be16toh(medium) : size == 127 ? be64toh(large) : size);
}

static void unmask(uint8_t *payload, size_t size, const uint8_t *mask) {
    uint64_t eight;
    size_t i = 0;
    memcpy(&eight, mask, MASK);
    memcpy((uint8_t *)&eight + MASK, mask, MASK);
    for (; i + sizeof eight <= size; i += sizeof eight) {
        uint64_t part;
        memcpy(&part, payload + i, sizeof part);
        part ^= eight;
        memcpy(payload + i, &part, sizeof part);
    }
    for (; i < size; i++) payload[i] ^= mask[i % MASK];
}

/* Reads until a frame ends, and answers all of them; a close is answered, too, and ends it. */
static void serve(struct client *c) {
    size_t start = 0, end = 0, header;
    do {
        size_t size;
        int n = get(c, received + end, sizeof received - end);
        if (n <= 0) {
            leave(c);
            return;
        }
        end += (size_t)n;
        while ((size = frame_at(received + start, end - start, &header)) && size <= end - start) {
            uint8_t mask[MASK], *frame = received + start + MASK;
            bool closes = (received[start] & 15) == 8;
            memcpy(mask, received + start + header, MASK);
            memmove(frame, received + start, header);
            frame[1] &= 127;
            unmask(frame + header, size - header - MASK, mask);
            for (int i = 0; i < (echoes ? 1 : count); i++)
                if (!put(echoes ? c : &clients[i], frame, size - MASK)) {
                    leave(c);
                    return;
                }
            if (closes) {
                leave(c);
                return;
            }
            start += size;
        }
    } while (start < end || (c->ssl && SSL_pending(c->ssl)));
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct rlimit files;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (argc < 3) die("bare echo|crowd PORT [PEM]");
    echoes = !strcmp(argv[1], "echo");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc > 3) {
        tls = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(tls, argv[3]) != 1 ||
            SSL_CTX_use_PrivateKey_file(tls, argv[3], SSL_FILETYPE_PEM) != 1)
            die("certificate");
    }
    address.sin_port = htons((uint16_t)atoi(argv[2]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(listener, 1024) < 0) die("listen");
    poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN});
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                serve(events[i].data.ptr);
            else
                take_in(listener);
    }
}
