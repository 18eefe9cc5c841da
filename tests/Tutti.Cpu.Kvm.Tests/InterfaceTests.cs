using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>Sizes and offsets of the kernel's structures on x86-64, from include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h.</summary>
public sealed unsafe class InterfaceTests
{
    [Fact]
    public void Structures_have_the_kernels_sizes()
    {
        Assert.Equal(144, sizeof(KvmRegs));
        Assert.Equal(24, sizeof(KvmSegment));
        Assert.Equal(16, sizeof(KvmDtable));
        Assert.Equal(312, sizeof(KvmSregs));
        Assert.Equal(16, sizeof(KvmMsrEntry));
        Assert.Equal(8 + 16, sizeof(KvmMsr));
        Assert.Equal(40, sizeof(KvmCpuidEntry2));
        Assert.Equal(64, sizeof(KvmVcpuEvents));
        Assert.Equal(128, sizeof(KvmDebugregs));
        Assert.Equal(392, sizeof(KvmXcrs));
        Assert.Equal(4, sizeof(KvmMpState));
        Assert.Equal(32, sizeof(KvmUserspaceMemoryRegion));
        Assert.Equal(64, sizeof(KvmPitConfig));
        Assert.Equal(8, sizeof(KvmIrqLevel));
        Assert.Equal(48, sizeof(KvmIrqRoutingEntry));
        Assert.Equal(32, sizeof(KvmMsi));
        Assert.Equal(32, sizeof(KvmIrqfd));
        Assert.Equal(64, sizeof(KvmIoeventfd));
        Assert.Equal(48, sizeof(KvmClockData));
        Assert.Equal(24, sizeof(KvmDeviceAttr));
    }

    [Theory]
    [InlineData(typeof(KvmRegs), "Rsi", 32)]
    [InlineData(typeof(KvmRegs), "R8ToR15", 64)]
    [InlineData(typeof(KvmRegs), "Rip", 128)]
    [InlineData(typeof(KvmRegs), "Rflags", 136)]
    [InlineData(typeof(KvmSegment), "Selector", 12)]
    [InlineData(typeof(KvmSegment), "Type", 14)]
    [InlineData(typeof(KvmSegment), "Unusable", 22)]
    [InlineData(typeof(KvmSregs), "Ds", 24)]
    [InlineData(typeof(KvmSregs), "Ss", 120)]
    [InlineData(typeof(KvmSregs), "Ldt", 168)]
    [InlineData(typeof(KvmSregs), "Gdt", 192)]
    [InlineData(typeof(KvmSregs), "Cr0", 224)]
    [InlineData(typeof(KvmSregs), "ApicBase", 272)]
    [InlineData(typeof(KvmSregs), "InterruptBitmap", 280)]
    [InlineData(typeof(KvmCpuidEntry2), "Eax", 12)]
    [InlineData(typeof(KvmVcpuEvents), "ExceptionErrorCode", 4)]
    [InlineData(typeof(KvmVcpuEvents), "InterruptShadow", 11)]
    [InlineData(typeof(KvmVcpuEvents), "NmiPending", 13)]
    [InlineData(typeof(KvmVcpuEvents), "Flags", 20)]
    [InlineData(typeof(KvmDebugregs), "Dr6", 32)]
    [InlineData(typeof(KvmXcrs), "Value", 16)]
    [InlineData(typeof(KvmUserspaceMemoryRegion), "UserspaceAddr", 24)]
    [InlineData(typeof(KvmIrqRoutingEntry), "Irqchip", 16)]
    [InlineData(typeof(KvmIrqRoutingEntry), "Data", 24)]
    [InlineData(typeof(KvmMsi), "Devid", 16)]
    [InlineData(typeof(KvmIrqfd), "Resamplefd", 12)]
    [InlineData(typeof(KvmIoeventfd), "Addr", 8)]
    [InlineData(typeof(KvmIoeventfd), "Fd", 20)]
    [InlineData(typeof(KvmIoeventfd), "Flags", 24)]
    [InlineData(typeof(KvmClockData), "Realtime", 16)]
    [InlineData(typeof(KvmDeviceAttr), "Addr", 16)]
    [InlineData(typeof(KvmRun), "ImmediateExit", 1)]
    [InlineData(typeof(KvmRun), "ExitReason", 8)]
    [InlineData(typeof(KvmRun), "Io", 32)]
    [InlineData(typeof(KvmRun), "Mmio", 32)]
    [InlineData(typeof(KvmRun.FailEntryExit), "Cpu", 8)]
    [InlineData(typeof(KvmRun.IoExit), "Port", 2)]
    [InlineData(typeof(KvmRun.IoExit), "Count", 4)]
    [InlineData(typeof(KvmRun.IoExit), "DataOffset", 8)]
    [InlineData(typeof(KvmRun.MmioExit), "Data", 8)]
    [InlineData(typeof(KvmRun.MmioExit), "Len", 16)]
    [InlineData(typeof(KvmRun.MmioExit), "IsWrite", 20)]
    [InlineData(typeof(KvmRun.InternalErrorExit), "Data", 8)]
    [InlineData(typeof(KvmRun.SystemEventExit), "Data", 8)]
    [InlineData(typeof(KvmRun.MsrExit), "Reason", 4)]
    [InlineData(typeof(KvmRun.MsrExit), "Data", 16)]
    [InlineData(typeof(KvmRun.MemoryFaultExit), "Gpa", 8)]
    public void Fields_lie_where_the_kernel_has_them(Type type, string field, int offset) =>
        Assert.Equal(offset, (int)Marshal.OffsetOf(type, field));

    /// <summary>A request's bits 16 to 29 are the size of its argument; bit 30 says that the kernel reads it, bit 31 that it writes.</summary>
    [Theory]
    [InlineData("KVM_SET_USER_MEMORY_REGION", typeof(KvmUserspaceMemoryRegion))]
    [InlineData("KVM_IRQ_LINE", typeof(KvmIrqLevel))]
    [InlineData("KVM_IRQFD", typeof(KvmIrqfd))]
    [InlineData("KVM_CREATE_PIT2", typeof(KvmPitConfig))]
    [InlineData("KVM_IOEVENTFD", typeof(KvmIoeventfd))]
    [InlineData("KVM_SET_CLOCK", typeof(KvmClockData))]
    [InlineData("KVM_GET_CLOCK", typeof(KvmClockData))]
    [InlineData("KVM_SIGNAL_MSI", typeof(KvmMsi))]
    [InlineData("KVM_GET_REGS", typeof(KvmRegs))]
    [InlineData("KVM_SET_REGS", typeof(KvmRegs))]
    [InlineData("KVM_GET_SREGS", typeof(KvmSregs))]
    [InlineData("KVM_SET_SREGS", typeof(KvmSregs))]
    [InlineData("KVM_GET_MP_STATE", typeof(KvmMpState))]
    [InlineData("KVM_SET_MP_STATE", typeof(KvmMpState))]
    [InlineData("KVM_GET_VCPU_EVENTS", typeof(KvmVcpuEvents))]
    [InlineData("KVM_SET_VCPU_EVENTS", typeof(KvmVcpuEvents))]
    [InlineData("KVM_GET_DEBUGREGS", typeof(KvmDebugregs))]
    [InlineData("KVM_SET_DEBUGREGS", typeof(KvmDebugregs))]
    [InlineData("KVM_GET_XCRS", typeof(KvmXcrs))]
    [InlineData("KVM_SET_XCRS", typeof(KvmXcrs))]
    [InlineData("KVM_SET_DEVICE_ATTR", typeof(KvmDeviceAttr))]
    [InlineData("KVM_GET_DEVICE_ATTR", typeof(KvmDeviceAttr))]
    [InlineData("KVM_HAS_DEVICE_ATTR", typeof(KvmDeviceAttr))]
    public void Requests_carry_the_size_of_their_argument(string request, Type type)
    {
        uint number = (uint)typeof(KvmIoctl).GetField(request, BindingFlags.Static | BindingFlags.NonPublic)!.GetRawConstantValue()!;
        int size = type.IsEnum ? sizeof(uint) : RuntimeHelpers.SizeOf(type.TypeHandle);

        Assert.Equal(size, (int)((number >> 16) & 0x3FFF));
        Assert.Equal(0xAEu, (number >> 8) & 0xFF);
    }
}
