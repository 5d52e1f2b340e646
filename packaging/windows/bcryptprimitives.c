/* Only for running here: Windows has this library since its tenth version, Wine 8 has not, and
   everything written in Rust asks it for random numbers (ProcessPrng of Windows' documentation of
   BCryptPrimitives). Laid into Wine's own folder; never shipped. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
    for (SIZE_T done = 0; done < size;) {
        ULONG part = size - done < 0x10000 ? (ULONG)(size - done) : 0x10000;
        if (!RtlGenRandom(data + done, part))
            return FALSE;
        done += part;
    }
    return TRUE;
}
