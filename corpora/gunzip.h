/* gunzip.h: the bytes inside a gzip file, member after member, as RFC 1952 has it. zlib checks the
   CRC-32 and the length at the end of each (libarchive 3.6 passes them over), so a damaged file is
   never read as another text. Refuses: other formats, bytes behind the last member but zeros. */
#ifndef RT_GUNZIP_H
#define RT_GUNZIP_H

#include "core/base/base.h"

RT_BEGIN

typedef struct rt_gunzip rt_gunzip;

rt_gunzip *rt_gunzip_open(int fd);  /* takes fd over, at its first byte; never NULL */
void rt_gunzip_close(rt_gunzip *g); /* accepts NULL */
/* The next bytes, valid until the next call: how many, 0 at the end, -1 when it is damaged. */
int64_t rt_gunzip_next(rt_gunzip *g, const void **data);
const char *rt_gunzip_problem(const rt_gunzip *g); /* after -1, in words; NULL = none so far */
int64_t rt_gunzip_packed(const rt_gunzip *g);      /* bytes of the file read so far */

RT_END

#endif
