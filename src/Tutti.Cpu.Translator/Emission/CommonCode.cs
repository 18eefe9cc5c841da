using System.Runtime.Intrinsics.X86;
using Tutti.Cpu.Interpreter;

namespace Tutti.Cpu.Translator;

/// <summary>
/// The code that every block shares: the way in, the way out, and the loading of vector and x87 state, each with the state's
/// address in RSP. It stands at the start of each vCPU's code region.
/// </summary>
internal sealed partial class CommonCode
{
    /// <summary>RBX, RBP, R12 to R15: what the calling convention wants back.</summary>
    private static readonly int[] Preserved = [3, 5, 12, 13, 14, 15];

    private readonly Emitter _emit;

    public CommonCode(Emitter emit)
    {
        _emit = emit;
        Exit = _emit.Here;
        EmitExit();
        long exitNoted = _exitNoted;
        LoadSse = _emit.Here;
        EmitLoadSse(exitNoted);
        LoadAvx = _emit.Here;
        EmitLoadAvx(exitNoted);
        LoadX87 = _emit.Here;
        EmitLoadX87(exitNoted);
        Leave = EmitExitOf(ExitKind.Attention);
        Land = EmitExitOf(ExitKind.Landed);
        Fault = EmitExitOf(ExitKind.Fault);
        StaleEntry = _emit.Here;
        _emit.MoveImmediate(HostRegister.Test, ExitInfo.Pack(ExitKind.Landed, 0) | (int)ExitInfo.StaleBit);
        _emit.Jump(Exit);
        Enter = _emit.Here;
        EmitEnter();
        EmitStubCode();
        EmitSystemCode();
    }

    /// <summary><c>void enter(HotState*, target)</c>.</summary>
    public long Enter { get; }

    /// <summary>Called with the <see cref="ExitInfo"/> in ECX; goes back to whoever has entered.</summary>
    public long Exit { get; }

    /// <summary>Where entries of the jump cache lead that hold nothing.</summary>
    public long Leave { get; }

    /// <summary>Where entries of a return ring lead that hold nothing: leaves, to go on at the linear address in R14.</summary>
    public long Land { get; }

    /// <summary>Called where a block that is gone was entered by linear address.</summary>
    public long StaleEntry { get; }

    /// <summary>Where an access goes on that has faulted on the host.</summary>
    public long Fault { get; }

    /// <summary>Called with an <see cref="ExitInfo"/> for the case that the instruction must be interpreted.</summary>
    public long LoadSse { get; }

    public long LoadAvx { get; }

    public long LoadX87 { get; }

    private long _exitNoted;

    /// <summary>Code that leaves; gives where it begins.</summary>
    private long EmitExitOf(ExitKind kind)
    {
        long begin = _emit.Here;
        _emit.MoveImmediate(HostRegister.Test, ExitInfo.Pack(kind, 0));
        _emit.Call(Exit);
        return begin;
    }

    private void EmitExit()
    {
        // The caller's address still lies on the stack: offsets are 8 more.
        _emit.Store32(StateLayout.Info + 8, HostRegister.Rcx);
        _exitNoted = _emit.Here;

        // POP [RSP+Site]: the address counts from RSP after the pop.
        _emit.StateOperation(false, 0x8F, 0, StateLayout.Site);
        _emit.Store(StateLayout.Address, HostRegister.Address);
        _emit.Store(StateLayout.Gpr(0), HostRegister.Rax);
        _emit.Bytes([0x9F, 0x0F, 0x90, 0xC0]); // LAHF; SETO AL
        _emit.Store32(StateLayout.Flags, HostRegister.Rax);
        for (int guest = 1; guest < 16; guest++)
        {
            if (HostRegister.OfGuest(guest) != HostRegister.InState)
            {
                _emit.Store(StateLayout.Gpr(guest), HostRegister.OfGuest(guest));
            }
        }

        EmitSaveVectors();
        _emit.Load(HostRegister.State, StateLayout.HostRsp);
        for (int i = Preserved.Length - 1; i >= 0; i--)
        {
            Pop(Preserved[i]);
        }

        _emit.Byte(0xC3);
    }

    /// <summary>Saves what is loaded. Flags are free.</summary>
    private void EmitSaveVectors()
    {
        long skipX87 = BeginIfLoaded(StateLayout.X87Loaded);
        Fx();
        _emit.Bytes([0xDB, 0xE3]); // FNINIT

        // Where the last x87 instruction lay is the host's business.
        _emit.Bytes([0x31, 0xC9]); // XOR ECX, ECX
        _emit.Store(StateLayout.FxArea + 8, HostRegister.Rcx);
        _emit.Store(StateLayout.FxArea + 16, HostRegister.Rcx);
        _emit.PatchHere(skipX87);

        long skipSse = BeginIfLoaded(StateLayout.SseLoaded);
        MoveSse(0x11);
        Mxcsr(3, StateLayout.Mxcsr);
        Mxcsr(2, StateLayout.HostMxcsr);
        long skipAvx = BeginIfLoaded(StateLayout.AvxLoaded);
        if (Avx.IsSupported)
        {
            MoveAvx(store: true);
            _emit.Bytes([0xC5, 0xF8, 0x77]); // VZEROUPPER
        }

        _emit.PatchHere(skipAvx);
        _emit.PatchHere(skipSse);
    }

    private void EmitLoadSse(long exitNoted)
    {
        NoteInfoUnless(StateLayout.SseForbidden, exitNoted);
        LoadSseRegisters();
        _emit.Byte(0xC3);
    }

    private void EmitLoadAvx(long exitNoted)
    {
        NoteInfoUnless(StateLayout.AvxForbidden, exitNoted);
        _emit.Load32(HostRegister.Rcx, StateLayout.SseLoaded + 8);
        long missing = _emit.BeginJumpIfZero();
        long skip = _emit.JumpLater();
        _emit.EndShort(missing);
        LoadSseRegisters();
        _emit.PatchHere(skip);
        if (Avx.IsSupported)
        {
            MoveAvx(store: false, 8);
        }

        _emit.StoreImmediate32(StateLayout.AvxLoaded + 8, 1);
        _emit.Byte(0xC3);
    }

    private void EmitLoadX87(long exitNoted)
    {
        NoteInfoUnless(StateLayout.X87Forbidden, exitNoted);

        // FXRSTOR loads the XMM registers too: what they hold goes to the state first.
        long skip = BeginIfLoaded(StateLayout.SseLoaded + 8);
        MoveSse(0x11, 8);
        Mxcsr(3, StateLayout.Mxcsr + 8);
        _emit.PatchHere(skip);
        Fx(8, load: true);
        _emit.StoreImmediate32(StateLayout.SseLoaded + 8, 1);
        _emit.StoreImmediate32(StateLayout.X87Loaded + 8, 1);
        _emit.Byte(0xC3);
    }

    /// <summary>Loads XMM registers and MXCSR and says so. RSP is 8 below the state.</summary>
    private void LoadSseRegisters()
    {
        MoveSse(0x10, 8);
        Mxcsr(2, StateLayout.Mxcsr + 8);
        _emit.StoreImmediate32(StateLayout.SseLoaded + 8, 1);
    }

    /// <summary>What follows, until the jump that is given back is led past it, runs only where a unit is loaded. Changes RCX.</summary>
    private long BeginIfLoaded(int unit)
    {
        _emit.Load32(HostRegister.Rcx, unit);
        long missing = _emit.BeginJumpIfZero();
        long loaded = _emit.JumpLater();
        _emit.EndShort(missing);
        long skip = _emit.JumpLater();
        _emit.PatchHere(loaded);
        return skip;
    }

    /// <summary>Leaves for the interpreter when a flag of the state is set. RSP is 8 below the state.</summary>
    private void NoteInfoUnless(int forbidden, long exitNoted)
    {
        _emit.Store32(StateLayout.Info + 8, HostRegister.Rcx);
        _emit.Load32(HostRegister.Rcx, forbidden + 8);
        long allowed = _emit.BeginJumpIfZero();
        _emit.Jump(exitNoted);
        _emit.EndShort(allowed);
    }

    private void EmitEnter()
    {
        foreach (int register in Preserved)
        {
            Push(register);
        }

        // MOV [RDI+HostRsp], RSP; LEA RSP, [RDI+Bias].
        _emit.Rex(true, HostRegister.State, 0, 7);
        _emit.Byte(0x89);
        _emit.Operand(HostRegister.State, 7, StateLayout.HostRsp);
        _emit.Lea(HostRegister.State, 7, StateLayout.Bias);
        _emit.Store(StateLayout.Site, 6);
        EmitReload();

        _emit.Load32(HostRegister.Rax, StateLayout.Flags);
        _emit.LoadFlagsFromEax();
        for (int guest = 0; guest < 16; guest++)
        {
            if (HostRegister.OfGuest(guest) != HostRegister.InState)
            {
                _emit.Load(HostRegister.OfGuest(guest), StateLayout.Gpr(guest));
            }
        }

        // A block that is entered by linear address wants that, and an access that is tried again what it had.
        _emit.Load(HostRegister.Address, StateLayout.Address);
        _emit.Load(HostRegister.Distance, StateLayout.Distance);

        // PUSH [RSP+Site]; RET. What is left on the processor's return stack is then what the guest's calls have put there.
        _emit.StateOperation(false, 0xFF, 6, StateLayout.Site);
        _emit.Byte(0xC3);
    }

    /// <summary>Loads again what was loaded when the exit was taken: the instruction is tried once more. Flags are free.</summary>
    private void EmitReload()
    {
        long skip = BeginIfLoaded(StateLayout.SseLoaded);
        MoveSse(0x10);
        Mxcsr(2, StateLayout.Mxcsr);
        _emit.PatchHere(skip);

        long skipX87 = BeginIfLoaded(StateLayout.X87Loaded);
        Fx(load: true);
        _emit.PatchHere(skipX87);

        long skipAvx = BeginIfLoaded(StateLayout.AvxLoaded);
        if (Avx.IsSupported)
        {
            MoveAvx(store: false);
        }

        _emit.PatchHere(skipAvx);
    }

    /// <summary>MOVUPS of all XMM registers: 10h loads, 11h stores.</summary>
    private void MoveSse(int opcode, int bias = 0)
    {
        for (int i = 0; i < 16; i++)
        {
            _emit.Rex(false, i, 0, HostRegister.State);
            _emit.Bytes([0x0F]);
            _emit.Byte(opcode);
            _emit.Operand(i, HostRegister.State, StateLayout.FxArea + CpuState.FxXmm + (16 * i) + bias);
        }
    }

    /// <summary>VEXTRACTF128 to, or VINSERTF128 from, the place of the upper halves.</summary>
    private void MoveAvx(bool store, int bias = 0)
    {
        for (int i = 0; i < 16; i++)
        {
            _emit.Byte(0xC4);
            _emit.Byte((i < 8 ? 0x80 : 0) | 0x60 | 3);
            _emit.Byte(((store ? 15 : ~i & 15) << 3) | 5);
            _emit.Byte(store ? 0x19 : 0x18);
            _emit.Operand(i, HostRegister.State, StateLayout.YmmHigh + (16 * i) + bias);
            _emit.Byte(1);
        }
    }

    /// <summary>LDMXCSR (2) and STMXCSR (3).</summary>
    private void Mxcsr(int operation, int offset)
    {
        _emit.Bytes([0x0F, 0xAE]);
        _emit.Operand(operation, HostRegister.State, offset);
    }

    /// <summary>FXSAVE64, or FXRSTOR64.</summary>
    private void Fx(int bias = 0, bool load = false)
    {
        _emit.Bytes([0x48, 0x0F, 0xAE]);
        _emit.Operand(load ? 1 : 0, HostRegister.State, StateLayout.FxArea + bias);
    }

    private void Push(int register)
    {
        _emit.Rex(false, 0, 0, register);
        _emit.Byte(0x50 | (register & 7));
    }

    private void Pop(int register)
    {
        _emit.Rex(false, 0, 0, register);
        _emit.Byte(0x58 | (register & 7));
    }
}
