using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>
/// Emits the way into tested code (all registers and flags from the record page), the way out (into the record page), and the
/// signal handler that turns a fault of tested code into a way out. All of the record is addressed absolutely, so that tested
/// code may hold anything in any register.
/// </summary>
internal sealed class Trampoline
{
    public const int PadCount = 6;

    /// <summary>__USER_CS and __USER_DS of Linux.</summary>
    public const ushort LongCode = 0x33;
    public const ushort UserData = 0x2B;

    /// <summary>__USER32_CS of Linux: compatibility mode.</summary>
    public const ushort LegacyCode = 0x23;

    // Offsets in ucontext_t of x86-64 Linux.
    private const int ContextRsp = 160;
    private const int ContextRip = 168;
    private const int ContextCs = 184;
    private const int ContextError = 192;
    private const int ContextTrap = 200;
    private const int ContextCr2 = 216;

    private static readonly AssemblerRegister64[] Registers =
        [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];

    private static readonly AssemblerRegister64[] CalleeSaved = [rbx, rbp, r12, r13, r14, r15];

    private readonly Assembler _code = new(64);

    private Trampoline()
    {
    }

    public byte[] Bytes { get; private set; } = [];

    public ulong Entry { get; private set; }

    public ulong SignalHandler { get; private set; }

    /// <summary>Where each pad jumps to.</summary>
    public ulong[] PadExits { get; } = new ulong[PadCount];

    public static Trampoline Emit()
    {
        Trampoline trampoline = new();
        Label entry = trampoline.EmitEntry();
        Label exit = trampoline.EmitExit();
        Label[] pads = [.. Enumerable.Range(0, PadCount).Select(n => trampoline.EmitPad(n, exit))];
        Label fault = trampoline.EmitPad(RecordLayout.FaultLanding, exit, () => trampoline._code.mov(rsp, Field(RecordLayout.FaultRsp)));
        Label handler = trampoline.EmitHandler(fault);
        using MemoryStream stream = new();
        AssemblerResult result = trampoline._code.Assemble(new StreamCodeWriter(stream), ArenaLayout.Trampoline, BlockEncoderOptions.ReturnNewInstructionOffsets);
        trampoline.Bytes = stream.ToArray();
        trampoline.Entry = result.GetLabelRIP(entry);
        trampoline.SignalHandler = result.GetLabelRIP(handler);
        for (int i = 0; i < PadCount; i++)
        {
            trampoline.PadExits[i] = result.GetLabelRIP(pads[i]);
        }

        return trampoline;
    }

    private static AssemblerMemoryOperand Field(int offset) => __qword_ptr[(long)ArenaLayout.Record + offset];

    private Label Mark()
    {
        Label label = _code.CreateLabel();
        _code.Label(ref label);
        return label;
    }

    private Label EmitEntry()
    {
        Label entry = Mark();
        foreach (AssemblerRegister64 register in CalleeSaved)
        {
            _code.push(register);
        }

        _code.pushfq();
        _code.pop(Field(RecordLayout.HostFlags));
        _code.mov(Field(RecordLayout.HostRsp), rsp);
        _code.mov(rax, __qword_ptr.fs[0]);
        _code.mov(Field(RecordLayout.Owner), rax);
        Label noFx = _code.CreateLabel();
        _code.cmp(Field(RecordLayout.UseFx), 0);
        _code.je(noFx);
        _code.fxsave64(__[(long)ArenaLayout.Record + RecordLayout.FxHost]);
        _code.fxrstor64(__[(long)ArenaLayout.Record + RecordLayout.FxIn]);
        ForUpperHalves((register, slot) => _code.vinsertf128(register, register, __xmmword_ptr[RecordLayout.YmmIn + slot], 1));
        _code.Label(ref noFx);
        _code.mov(Field(RecordLayout.Active), 1);
        _code.mov(ds, __word_ptr[(long)ArenaLayout.Record + RecordLayout.DataSelector]);
        _code.mov(es, __word_ptr[(long)ArenaLayout.Record + RecordLayout.DataSelector]);
        _code.push(Field(RecordLayout.FlagsIn));
        _code.popfq();
        foreach (AssemblerRegister64 register in Registers)
        {
            _code.mov(register, Field(RecordLayout.GprIn + (8 * Array.IndexOf(Registers, register))));
        }

        _code.jmp(__fword_ptr[(long)ArenaLayout.Record + RecordLayout.Target]);
        return entry;
    }

    private Label EmitExit()
    {
        Label exit = Mark();
        foreach (AssemblerRegister64 register in Registers)
        {
            _code.mov(Field(RecordLayout.GprOut + (8 * Array.IndexOf(Registers, register))), register);
        }

        _code.mov(rsp, Field(RecordLayout.HostRsp));
        _code.pushfq();
        _code.pop(Field(RecordLayout.FlagsOut));
        _code.push(Field(RecordLayout.HostFlags));
        _code.popfq();
        _code.xor(eax, eax);
        _code.mov(ds, eax);
        _code.mov(es, eax);
        Label noFx = _code.CreateLabel();
        _code.cmp(Field(RecordLayout.UseFx), 0);
        _code.je(noFx);
        ForUpperHalves((register, slot) => _code.vextractf128(__xmmword_ptr[RecordLayout.YmmOut + slot], register, 1));
        if (HostCalls.HasAvx)
        {
            // The C# code behind this uses SSE, which waits for dirty upper halves.
            _code.vzeroupper();
        }

        _code.fxsave64(__[(long)ArenaLayout.Record + RecordLayout.FxOut]);
        _code.fxrstor64(__[(long)ArenaLayout.Record + RecordLayout.FxHost]);
        _code.Label(ref noFx);
        _code.mov(Field(RecordLayout.Active), 0);
        foreach (AssemblerRegister64 register in CalleeSaved.Reverse())
        {
            _code.pop(register);
        }

        _code.ret();
        return exit;
    }

    private static void ForUpperHalves(Action<AssemblerRegisterYMM, long> emit)
    {
        AssemblerRegisterYMM[] registers = [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15];
        for (int i = 0; i < registers.Length && HostCalls.HasAvx; i++)
        {
            emit(registers[i], (long)ArenaLayout.Record + (16 * i));
        }
    }

    private Label EmitPad(int number, Label exit, Action? before = null)
    {
        Label pad = Mark();
        before?.Invoke();
        _code.mov(Field(RecordLayout.Landing), number);
        _code.jmp(exit);
        return pad;
    }

    /// <summary>handler(signal, siginfo, ucontext).</summary>
    private Label EmitHandler(Label fault)
    {
        Label handler = Mark();
        Label notOurs = _code.CreateLabel();
        _code.cmp(Field(RecordLayout.Active), 0);
        _code.je(notOurs);
        _code.mov(rax, __qword_ptr.fs[0]);
        _code.cmp(rax, Field(RecordLayout.Owner));
        _code.jne(notOurs);
        foreach ((int from, int to) in new[]
        {
            (ContextRsp, RecordLayout.FaultRsp), (ContextRip, RecordLayout.FaultRip), (ContextError, RecordLayout.FaultError),
            (ContextTrap, RecordLayout.FaultVector), (ContextCr2, RecordLayout.FaultAddress),
        })
        {
            _code.mov(rax, __qword_ptr[rdx + from]);
            _code.mov(Field(to), rax);
        }

        // Tested code may have left anything in RSP: see HostFeatures.StackPointer.
        _code.mov(rax, Field(RecordLayout.HostRsp));
        _code.mov(__qword_ptr[rdx + ContextRsp], rax);
        _code.lea(rax, __[fault]);
        _code.mov(__qword_ptr[rdx + ContextRip], rax);
        _code.mov(__word_ptr[rdx + ContextCs], LongCode);
        _code.ret();
        _code.Label(ref notOurs);
        _code.jmp(__qword_ptr[(rdi * 8) + ((long)ArenaLayout.Record + RecordLayout.OldHandlers)]);
        return handler;
    }
}
