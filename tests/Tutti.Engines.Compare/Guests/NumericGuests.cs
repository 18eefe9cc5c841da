using Iced.Intel;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Engines.Compare.Guests;

/// <summary>x87, MMX and SSE with their control and status.</summary>
internal static class NumericGuests
{
    private const int Data = (int)GuestBuilder.Data;

    public static IReadOnlyList<NamedGuest> All { get; } =
    [
        new("x87: arithmetic and status", GuestMode.User, g => g.Program(X87)),
        new("x87: arithmetic and status at level 0", GuestMode.Long, g => g.Program(X87)),
        new("x87: stack overflow and underflow", GuestMode.User, g => g.Program(a =>
        {
            a.fninit();
            a.fstp(st0);
            a.fnstsw(ax);
            a.mov(ebx, eax);
            a.fnclex();
            for (int i = 0; i < 9; i++)
            {
                a.fld1();
            }

            a.fnstsw(ax);
        })),
        new("x87: rounding modes", GuestMode.User, g => g.Program(a =>
        {
            a.mov(__dword_ptr[Data], 0x4020_0000);
            for (int mode = 0; mode < 4; mode++)
            {
                a.mov(__word_ptr[Data + 8], 0x037F | (mode << 10));
                a.fldcw(__word_ptr[Data + 8]);
                a.fld(__dword_ptr[Data]);
                a.fistp(__dword_ptr[Data + 0x10 + (mode * 8)]);
                a.fld(__dword_ptr[Data]);
                a.fchs();
                a.fistp(__qword_ptr[Data + 0x40 + (mode * 8)]);
            }
        })),
        new("x87: comparisons set the flags", GuestMode.User, g => g.Program(a =>
        {
            a.fldz();
            a.fld1();
            a.fcomi(st0, st1);
            a.pushfq();
            a.fxch(st0, st1);
            a.fucomi(st0, st1);
            a.pushfq();
            a.fcom(st0, st1);
            a.fnstsw(ax);
            a.ftst();
            a.fxam();
        })),
        new("x87: decimal and integer formats", GuestMode.User, g => g.Program(a =>
        {
            a.mov(__dword_ptr[Data], 1234567);
            a.fild(__dword_ptr[Data]);
            a.fld(st0);
            a.fbstp(__tbyte_ptr[Data + 16]);
            a.fst(__qword_ptr[Data + 32]);
            a.fstp(__tbyte_ptr[Data + 48]);
            a.fbld(__tbyte_ptr[Data + 16]);
            a.fisttp(__word_ptr[Data + 64]);
        })),
        new("mmx: packs and shuffles", GuestMode.User, g => g.Program(a =>
        {
            a.mov(rax, 0x0102_0304_7FFF_8000);
            a.movq(mm0, rax);
            a.movq(mm1, mm0);
            a.paddsw(mm0, mm1);
            a.packuswb(mm1, mm0);
            a.pshufw(mm2, mm1, 0x1B);
            a.pmaddwd(mm2, mm0);
            a.movq(__qword_ptr[Data], mm2);
            a.emms();
        })),
        new("sse: arithmetic and MXCSR", GuestMode.User, g => g.Program(Sse)),
        new("sse: arithmetic and MXCSR at level 0", GuestMode.Long, g => g.Program(Sse)),
        new("sse: flush to zero and denormals are zero", GuestMode.User, g => g.Program(a =>
        {
            a.mov(__dword_ptr[Data], 0x9FC0);
            a.ldmxcsr(__dword_ptr[Data]);
            a.mov(eax, 0x0080_0000);
            a.movd(xmm0, eax);
            a.mov(eax, 0x3F00_0000);
            a.movd(xmm1, eax);
            a.mulss(xmm0, xmm1);
            a.mov(eax, 1);
            a.movd(xmm2, eax);
            a.addss(xmm2, xmm2);
            a.stmxcsr(__dword_ptr[Data + 8]);
        })),
        new("sse: #GP of reserved MXCSR bits", GuestMode.User, g => g.Program(a =>
        {
            a.mov(__dword_ptr[Data], 0x0001_1F80);
            a.ldmxcsr(__dword_ptr[Data]);
        })),
        new("sse: comparisons set the flags", GuestMode.User, g => g.Program(a =>
        {
            a.mov(eax, 0x7FC0_0000);
            a.movd(xmm1, eax);
            a.ucomiss(xmm0, xmm1);
            a.pushfq();
            a.comiss(xmm0, xmm0);
            a.pushfq();
            a.cmpps(xmm1, xmm0, 3);
            a.movmskps(ecx, xmm1);
        })),
        new("sse: shuffles and conversions", GuestMode.User, g => g.Program(a =>
        {
            a.mov(rax, 0x1122_3344_5566_7788);
            a.movq(xmm0, rax);
            a.pshufd(xmm1, xmm0, 0x4E);
            a.punpcklbw(xmm0, xmm1);
            a.cvtsi2sd(xmm2, rax);
            a.cvttsd2si(rbx, xmm2);
            a.cvtsd2ss(xmm3, xmm2);
            a.cvtps2pd(xmm4, xmm3);
            a.movaps(__xmmword_ptr[Data], xmm0);
            a.movdqu(xmm5, __xmmword_ptr[Data + 3]);
            a.pmovmskb(ecx, xmm5);
            a.pcmpeqb(xmm5, xmm0);
        })),
        new("state: FXSAVE and FXRSTOR", GuestMode.Long, g =>
        {
            g.Program(a =>
            {
                a.fld1();
                a.fldpi();
                a.mov(eax, 0x1234);
                a.movd(xmm7, eax);
                a.movq(xmm15, rsp);
                a.mov(ebx, Data);
                a.fxsave(__[rbx]);
                a.fninit();
                a.xorps(xmm7, xmm7);
                a.fxrstor(__[rbx]);

                // The addresses and the opcode of the last instruction are kept at different times, and the rest is nobody's.
                a.xor(eax, eax);
                a.mov(__word_ptr[rbx + 6], ax);
                a.mov(__qword_ptr[rbx + 8], rax);
                a.mov(__qword_ptr[rbx + 16], rax);
                a.mov(__dword_ptr[rbx + 28], eax);
            });
        }),
    ];

    private static void X87(Assembler a)
    {
        a.fld1();
        a.fldpi();
        a.fadd(st0, st1);
        a.fldl2e();
        a.fmulp(st1, st0);
        a.fsqrt();
        a.fld(st0);
        a.frndint();
        a.fsubp(st1, st0);
        a.fabs();
        a.fst(__qword_ptr[Data]);
        a.fdivp(st1, st0);
        a.fst(__dword_ptr[Data + 8]);
        a.fnstsw(ax);
        a.fnstcw(__word_ptr[Data + 16]);
    }

    private static void Sse(Assembler a)
    {
        a.mov(eax, 0x3F80_0000);
        a.movd(xmm0, eax);
        a.mov(eax, 0x4040_0000);
        a.movd(xmm1, eax);
        a.shufps(xmm1, xmm1, 0);
        a.divss(xmm0, xmm1);
        a.stmxcsr(__dword_ptr[Data]);
        a.sqrtps(xmm2, xmm1);
        a.xorps(xmm3, xmm3);
        a.movaps(xmm4, xmm1);
        a.divps(xmm4, xmm3);
        a.stmxcsr(__dword_ptr[Data + 4]);
        a.cvtps2pd(xmm5, xmm2);
        a.addpd(xmm5, xmm5);
        a.subsd(xmm5, xmm2);
        a.maxps(xmm2, xmm0);
    }
}
