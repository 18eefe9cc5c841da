using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.Engines.Compare.Guests;
using Tutti.X86;

namespace Tutti.Engines.Compare.Streams;

/// <summary>Instructions of level 0, and of real mode, that leave the run in its mode.</summary>
internal sealed class PrivilegedInstructions(int bits)
{
    /// <summary>Registers that keep what is written, with values that may be written or not.</summary>
    private static readonly uint[] Msrs =
        [Msr.Star, Msr.Lstar, Msr.Cstar, Msr.Sfmask, Msr.KernelGsBase, Msr.SysenterCs, Msr.SysenterEip, Msr.SysenterEsp, Msr.FsBase];

    private static readonly ushort[] Selectors =
    [
        GuestBuilder.KernelData, GuestBuilder.KernelData, GuestBuilder.UserData, GuestBuilder.KernelCode, GuestBuilder.KernelCode32, 0,
        GuestBuilder.TssSelector, 0x108, 0x7C,
    ];

    private readonly List<Instruction> _made = [];
    private SeededRandom _random = new(1);

    private Register Wide => bits == 64 ? Register.RAX : Register.EAX;

    /// <summary>One instruction and what it needs before it.</summary>
    public IReadOnlyList<Instruction> Make(SeededRandom random)
    {
        _random = random;
        _made.Clear();
        int choice = random.Below(bits == 16 ? 8 : 14);
        switch (choice)
        {
            case 0:
                Port();
                break;
            case 1:
                Add(Instruction.Create(random.Pick<Code>([Code.Cli, Code.Sti, Code.Clts, Code.Cld, Code.Std])));
                break;
            case 2:
                ReadControl();
                break;
            case 3:
                Constant(Register.EAX, (uint)random.Value());
                Move(bits == 64 ? Code.Mov_cr_r64 : Code.Mov_cr_r32, Register.CR2, Wide);
                break;
            case 4:
                Add(Instruction.Create(Code.Smsw_rm16, Register.AX + random.Below(4)));
                break;
            case 5:
                Debug();
                break;
            case 6:
                Model();
                break;
            case 7:
                LoadSegment();
                break;
            case 8:
                Add(Instruction.Create(random.Percent(50) ? Code.Str_r32m16 : Code.Sldt_r32m16, Register.ECX));
                break;
            case 9:
                Constant(Register.EDX, random.Pick(Selectors));
                // QEMU's translator leaves the limit's bits out of LAR.
                Add(Instruction.Create(random.Percent(50) && !HostEvidence.IsTranslated ? Code.Lar_r32_r32m16 : Code.Lsl_r32_r32m16, Register.EBX, Register.EDX));
                break;
            case 10:
                Constant(Register.EDX, random.Pick(Selectors));
                Add(Instruction.Create(random.Percent(50) ? Code.Verr_rm16 : Code.Verw_rm16, Register.DX));
                break;
            case 11 when bits == 64:
                Add(Instruction.Create(Code.Swapgs));
                break;
            case 12 when random.Percent(20):
                Add(Instruction.Create(Code.Int_imm8, random.Below(256)));
                break;
            default:
                Add(Instruction.Create(Code.Invlpg_m, new MemoryOperand(Register.None, Register.None, 1, 0x2002_1000, bits / 8)));
                break;
        }

        return _made;
    }

    private void Add(in Instruction instruction) => _made.Add(instruction);

    private void Move(Code code, Register to, Register from) => Add(Instruction.Create(code, to, from));

    private void Constant(Register register, uint value) => Add(Instruction.Create(Code.Mov_r32_imm32, register, value));

    private void Port()
    {
        // Ports of nobody: some engines bring a PC's own controllers.
        if (_random.Percent(50))
        {
            Constant(Register.EDX, 0x1500 + (uint)_random.Below(16));
            Add(_random.Below(6) switch
            {
                0 => Instruction.Create(Code.In_AL_DX, Register.AL, Register.DX),
                1 => Instruction.Create(Code.In_AX_DX, Register.AX, Register.DX),
                2 => Instruction.Create(Code.In_EAX_DX, Register.EAX, Register.DX),
                3 => Instruction.Create(Code.Out_DX_AL, Register.DX, Register.AL),
                4 => Instruction.Create(Code.Out_DX_AX, Register.DX, Register.AX),
                _ => Instruction.Create(Code.Out_DX_EAX, Register.DX, Register.EAX),
            });
        }
        else
        {
            Add(_random.Percent(50) ? Instruction.Create(Code.In_AL_imm8, Register.AL, 0xE0) : Instruction.Create(Code.Out_imm8_EAX, 0xE4, Register.EAX));
        }
    }

    private void ReadControl()
    {
        Register control = _random.Pick<Register>([Register.CR0, Register.CR2, Register.CR3, Register.CR4]);
        Move(bits == 64 ? Code.Mov_r64_cr : Code.Mov_r32_cr, Wide + 1, control);
    }

    private void Debug()
    {
        Register debug = _random.Pick<Register>([Register.DR0, Register.DR1, Register.DR2, Register.DR3, Register.DR6]);
        bool isRead = _random.Percent(50);
        if (!isRead)
        {
            // What is reserved in DR6 reads differently where KVM lets the guest have the register.
            Constant(Register.EBX, (uint)_random.Value() & (debug == Register.DR6 ? 0xE00F : uint.MaxValue));
        }

        (Code read, Code write) = bits == 64 ? (Code.Mov_r64_dr, Code.Mov_dr_r64) : (Code.Mov_r32_dr, Code.Mov_dr_r32);
        Add(isRead ? Instruction.Create(read, Wide + 3, debug) : Instruction.Create(write, debug, Wide + 3));
    }

    private void Model()
    {
        uint msr = _random.Pick(Msrs);
        Constant(Register.ECX, msr);
        if (_random.Percent(60))
        {
            // The upper half of these is reserved, or AMD's and Intel's are not alike.
            bool isNarrow = msr is Msr.Sfmask or Msr.SysenterCs or Msr.SysenterEip or Msr.SysenterEsp;
            bool isCanonical = _random.Percent(60) || HostEvidence.IsTranslated;
            Constant(Register.EAX, (uint)_random.Value() & (msr == Msr.SysenterCs ? 0xFFFF : uint.MaxValue));
            Constant(Register.EDX, isNarrow ? 0 : isCanonical ? (uint)_random.Below(0x8000) : (uint)_random.Value());
            Add(Instruction.Create(Code.Wrmsr));
        }

        Add(Instruction.Create(Code.Rdmsr));
    }

    private void LoadSegment()
    {
        // DS and ES stay what operands in memory need.
        Register segment = _random.Percent(50) ? Register.GS : Register.FS;
        if (bits == 16)
        {
            Constant(Register.EAX, (uint)_random.Below(0x1_0000));
        }
        else
        {
            segment = Register.GS;
            Constant(Register.EAX, _random.Pick(Selectors));
        }

        Move(bits == 16 ? Code.Mov_Sreg_rm16 : Code.Mov_Sreg_r32m16, segment, bits == 16 ? Register.AX : Register.EAX);
    }
}
