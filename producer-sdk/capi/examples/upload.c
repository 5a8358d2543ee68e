/* Streams an H.264 file with start codes and access unit delimiters as a camera would:
 *
 *   LOOKBACK_TOKEN=... upload ENDPOINT FILE [FRAMES_PER_SECOND]
 *   LOOKBACK_TOKEN=... upload --media MEDIA_ENDPOINT MEDIA_STREAM FILE [FRAMES_PER_SECOND]
 *
 * Such a file is made by: ffmpeg -i VIDEO -c:v libx264 -bf 0 -x264-params aud=1 -an FILE.h264
 */
#include "lookback_producer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NAL_KEY_PICTURE = 5, NAL_ACCESS_UNIT_DELIMITER = 9 };

static void check(lookback_status status, const char *what) {
    if (status != LOOKBACK_OK) {
        fprintf(stderr, "%s: %s\n", what, lookback_last_error());
        exit(1);
    }
}

static void on_event(void *context, const lookback_event *event) {
    (void)context;
    switch (event->kind) {
    case LOOKBACK_FRAGMENT_PERSISTED:
        printf("persisted %lld ms as %s\n", (long long)event->start_ms, event->text);
        break;
    case LOOKBACK_DISCONNECTED:
    case LOOKBACK_FRAGMENT_DROPPED:
    case LOOKBACK_FRAMES_SKIPPED:
        fprintf(stderr, "event %d: %s\n", (int)event->kind, event->text);
        break;
    default:
        break;
    }
}

static uint8_t *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        exit(1);
    }
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = size > 0 ? malloc((size_t)size) : NULL;
    if (bytes == NULL || fread(bytes, 1, (size_t)size, file) != (size_t)size) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(1);
    }
    fclose(file);
    *len = (size_t)size;
    return bytes;
}

/* The type of the NAL unit whose start code is at `at`, or -1. */
static int nal_type(const uint8_t *bytes, size_t len, size_t at) {
    if (at + 4 > len || bytes[at] != 0 || bytes[at + 1] != 0 || bytes[at + 2] != 1) {
        return -1;
    }
    return bytes[at + 3] & 0x1F;
}

static int64_t now_ms(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int argc, char **argv) {
    const char *token = getenv("LOOKBACK_TOKEN");
    bool media_is_known = argc > 1 && strcmp(argv[1], "--media") == 0;
    int file_at = media_is_known ? 4 : 2;
    if (token == NULL || argc <= file_at) {
        fprintf(stderr, "usage: LOOKBACK_TOKEN=... %s ENDPOINT FILE [FRAMES_PER_SECOND]\n", argv[0]);
        return 2;
    }
    int per_second = argc > file_at + 1 ? atoi(argv[file_at + 1]) : 25;
    if (per_second < 1) {
        fprintf(stderr, "%s is no number of frames per second\n", argv[file_at + 1]);
        return 2;
    }
    size_t len = 0;
    uint8_t *bytes = read_file(argv[file_at], &len);

    lookback_config *config = NULL;
    uint64_t video = 0;
    check(lookback_config_new(argv[media_is_known ? 2 : 1], token, &config), "endpoint");
    if (media_is_known) {
        check(lookback_config_media(config, argv[2], argv[3]), "media endpoint");
        check(lookback_config_announce(config, false), "announce");
    }
    check(lookback_config_add_h264(config, &video), "track");
    check(lookback_config_on_event(config, on_event, NULL), "event callback");

    lookback_producer *producer = NULL;
    check(lookback_producer_new(config, &producer), "start");
    lookback_config_free(config);

    int64_t start_ms = now_ms();
    int64_t frames = 0;
    size_t begin = 0;
    bool key = false;
    for (size_t at = 1; at <= len; at++) {
        int type = nal_type(bytes, len, at);
        if (type == NAL_KEY_PICTURE) {
            key = true;
        }
        if (type != NAL_ACCESS_UNIT_DELIMITER && at != len) {
            continue;
        }
        /* The zero byte that makes a start code of four belongs to the next frame. */
        size_t end = at < len && bytes[at - 1] == 0 ? at - 1 : at;
        if (end > begin) {
            bool room = false;
            check(lookback_producer_wait_for_room(producer, 10000, &room), "room");
            check(lookback_producer_put_frame(producer, video, start_ms + frames * 1000 / per_second,
                                              key, bytes + begin, end - begin),
                  "frame");
            frames++;
        }
        begin = end;
        key = false;
    }
    free(bytes);

    lookback_report report;
    check(lookback_producer_stop(producer, 10000, &report), "stop");
    lookback_producer_free(producer);
    printf("%lld frames, %llu fragments persisted, %llu undelivered\n", (long long)frames,
           (unsigned long long)report.health.fragments_persisted,
           (unsigned long long)report.undelivered);
    return report.undelivered == 0 && report.health.fragments_dropped == 0 ? 0 : 1;
}
