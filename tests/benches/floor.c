/* The floor: the cost of the kernel alone when one stream is sent to many players.
 *
 *     cc -O2 -o floor floor.c
 *     ./floor PORT FILE.flv WINDOW_MS
 *
 * One thread, one epoll, no allocation while it runs. The file's tags are chunked once and played in real time, over and over. Every
 * WINDOW_MS one send() gives each player the messages that are due; with a window of 0 each message is sent by itself when it is due.
 * Every client gets the same fixed answers and then plays. There is no publisher, no timeout, no slow player, no second stream. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CLIENTS = 20000, C0_C1 = 1537, C2 = 1536, INPUT = 4096 };

/* Progress of a client. */
enum step { WANTS_S0, WANTS_S1, WANTS_CONNECT, WANTS_STREAM, WANTS_PLAY, PLAYS };

struct client {
    int fd, index;
    enum step step;
    size_t length; /* of input that is not parsed yet */
    uint8_t input[INPUT];
};

static struct client *clients[MAX_CLIENTS];
static int client_count;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Bytes under construction. */
struct out {
    uint8_t *bytes;
    size_t length;
};

static void put(struct out *out, const void *bytes, size_t length)
{
    memcpy(out->bytes + out->length, bytes, length);
    out->length += length;
}

static void put_number(struct out *out, uint32_t value, int bytes)
{
    while (bytes-- > 0)
        out->bytes[out->length++] = value >> (8 * bytes);
}

/* A message in one chunk of type 0: the announced chunk size exceeds every message. */
static void put_message(struct out *out, int csid, uint32_t time, int type, int stream, const void *payload, size_t length)
{
    put_number(out, csid, 1);
    put_number(out, time & 0xffffff, 3);
    put_number(out, length, 3);
    put_number(out, type, 1);
    put(out, (uint8_t[4]){ stream }, 4);
    put(out, payload, length);
}

/* AMF0: a string without and with its marker. */
static void put_key(struct out *out, const char *text)
{
    put_number(out, strlen(text), 2);
    put(out, text, strlen(text));
}

static void put_string(struct out *out, const char *text)
{
    put_number(out, 2, 1);
    put_key(out, text);
}

/* AMF0: an object with a code only. */
static void put_status(struct out *out, const char *code)
{
    put_number(out, 3, 1);
    put_key(out, "code");
    put_string(out, code);
    put_number(out, 9, 3);
}

static void reply(struct client *client, const struct out *out)
{
    send(client->fd, out->bytes, out->length, MSG_NOSIGNAL);
}

/* Returns the transaction id of this command in a client's input; NULL if the command has not arrived. */
static const uint8_t *find_command(const struct client *client, const char *name)
{
    uint8_t key[32];
    struct out out = { key, 0 };
    put_string(&out, name);
    put_number(&out, 0, 1);
    const uint8_t *at = memmem(client->input, client->length, key, out.length);
    return at && at + out.length + 8 <= client->input + client->length ? at + out.length : NULL;
}

static void consume(struct client *client, size_t length)
{
    client->length -= length;
    memmove(client->input, client->input + length, client->length);
}

/* Answers the complete commands of the input. Returns true if there were any. */
static int advance(struct client *client)
{
    uint8_t bytes[2 * C0_C1], payload[256];
    struct out out = { bytes, 0 }, body = { payload, 0 };
    const uint8_t *id;
    switch (client->step) {
    case WANTS_S0:
        if (client->length < C0_C1)
            return 0;
        memset(bytes, 0, sizeof bytes);
        bytes[0] = 3;
        memcpy(bytes + C0_C1, client->input + 1, C2);
        out.length = C0_C1 + C2;
        reply(client, &out);
        consume(client, C0_C1);
        break;
    case WANTS_S1:
        if (client->length < C2)
            return 0;
        put_message(&out, 2, 0, 1, 0, (uint8_t[4]){ 0x7f, 0xff, 0xff, 0xff }, 4);
        reply(client, &out);
        consume(client, C2);
        break;
    case WANTS_CONNECT:
    case WANTS_STREAM:
        id = find_command(client, client->step == WANTS_CONNECT ? "connect" : "createStream");
        if (!id)
            return 0;
        put_string(&body, "_result");
        put_number(&body, 0, 1);
        put(&body, id, 8);
        put_number(&body, 5, 1);
        if (client->step == WANTS_CONNECT)
            put_status(&body, "NetConnection.Connect.Success");
        else
            put(&body, (uint8_t[9]){ 0, 0x3f, 0xf0 }, 9); /* the number 1 */
        put_message(&out, 3, 0, 20, 0, payload, body.length);
        reply(client, &out);
        break;
    case WANTS_PLAY:
        if (!find_command(client, "play"))
            return 0;
        put_string(&body, "onStatus");
        put(&body, (uint8_t[10]){ 0, 0, 0, 0, 0, 0, 0, 0, 0, 5 }, 10);
        put_status(&body, "NetStream.Play.Start");
        put_message(&out, 5, 0, 20, 1, payload, body.length);
        reply(client, &out);
        break;
    default:
        return 0;
    }
    client->step++;
    return 1;
}

static void hear(struct client *client)
{
    ssize_t n = recv(client->fd, client->input + client->length, INPUT - client->length, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        close(client->fd);
        clients[client->index] = clients[--client_count];
        clients[client->index]->index = client->index;
        free(client);
        return;
    }
    client->length += n;
    while (advance(client))
        ;
    if (client->step == PLAYS || client->length == INPUT)
        client->length = 0;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* Sets the timer to a time of now_ms(). */
static void set_timer(int timer, double at)
{
    if (at < 1)
        at = 1;
    struct timespec t = { at / 1e3, (at - (long)(at / 1e3) * 1e3) * 1e6 };
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &(struct itimerspec){ .it_value = t }, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: floor PORT FILE.flv WINDOW_MS\n");
        return 2;
    }
    FILE *file = fopen(argv[2], "rb");
    if (!file)
        die(argv[2]);
    static uint8_t flv[64 << 20];
    size_t size = fread(flv, 1, sizeof flv, file), at = 13;

    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        die("listen");

    int poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), window_ms = atoi(argv[3]);
    struct timespec window = { window_ms / 1000, window_ms % 1000 * 1000000L };
    timerfd_settime(timer, 0, &(struct itimerspec){ window, window }, NULL);
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){ EPOLLIN, { .ptr = &listener } });
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &(struct epoll_event){ EPOLLIN, { .ptr = &timer } });

    static uint8_t due[4 << 20];
    double start = now_ms();
    if (window_ms == 0)
        set_timer(timer, start);
    uint32_t round = 0, last = 0;
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            if (who == &listener) {
                int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                struct client *client = fd >= 0 && client_count < MAX_CLIENTS ? calloc(1, sizeof *client) : NULL;
                if (!client)
                    continue;
                client->fd = fd;
                client->index = client_count;
                clients[client_count++] = client;
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){ EPOLLIN, { .ptr = client } });
            } else if (who == &timer) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) < 0)
                    continue;
                struct out out = { due, 0 };
                for (;;) {
                    if (at + 11 >= size) {
                        at = 13;
                        round = last + 40;
                    }
                    const uint8_t *tag = flv + at;
                    uint32_t length = tag[1] << 16 | tag[2] << 8 | tag[3];
                    uint32_t time = round + (tag[4] << 16 | tag[5] << 8 | tag[6]);
                    if (start + time > now_ms() || out.length + length + 16 > sizeof due) {
                        if (window_ms == 0)
                            set_timer(timer, start + time);
                        break;
                    }
                    put_message(&out, tag[0] == 9 ? 6 : 4, time, tag[0], 1, tag + 11, length);
                    last = time;
                    at += 15 + length;
                    if (window_ms == 0) {
                        set_timer(timer, now_ms());
                        break;
                    }
                }
                for (int c = 0; out.length && c < client_count; c++) {
                    size_t sent = 0;
                    ssize_t w = 1;
                    while (clients[c]->step == PLAYS && sent < out.length && w > 0) {
                        w = send(clients[c]->fd, due + sent, out.length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
                        sent += w > 0 ? w : 0;
                    }
                }
            } else {
                hear(who);
            }
        }
    }
}
